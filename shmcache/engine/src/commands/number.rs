//! Numbers as Redis reads and writes them.

use super::Fail;

/// A decimal integer, strictly: no spaces, no plus sign, no leading zeros, in the range of i64.
#[inline]
pub fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 19 || (digits[0] == b'0' && text.len() > 1) {
        return None;
    }
    let mut value: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = (digit - b'0') as i64;
        value = value.checked_mul(10)?;
        value = if negative {
            value.checked_sub(digit)?
        } else {
            value.checked_add(digit)?
        };
    }
    Some(value)
}

pub fn int_arg(text: &[u8]) -> Result<i64, Fail> {
    parse_int(text).ok_or_else(|| Fail::err("value is not an integer or out of range"))
}

pub fn float_arg(text: &[u8]) -> Result<f64, Fail> {
    float_of(text).ok_or_else(|| Fail::err("value is not a valid float"))
}

/// None for what is no number.
pub fn float_of(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text)
        .ok()?
        .parse()
        .ok()
        .filter(|value: &f64| !value.is_nan())
}

/// A number with 17 decimals, counted in their last place: what INCRBYFLOAT counts in, so that 0.1 and 0.2 are 0.3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decimal(i128);

const PLACES: usize = 17;
/// So large that a sum of two fits, and more than the 64 bits that Redis keeps of a number.
const DECIMAL_MAX: i128 = 10i128.pow(20 + PLACES as u32);

impl Decimal {
    /// None for what is no number, or too large; digits behind the last place are rounded.
    pub fn parse(text: &[u8]) -> Option<Decimal> {
        let (negative, rest) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            (b'+', rest) => (false, rest),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.iter().position(|byte| byte.eq_ignore_ascii_case(&b'e')) {
            Some(at) => (&rest[..at], parse_exponent(&rest[at + 1..])?),
            None => (rest, 0),
        };
        let point = mantissa.iter().position(|&byte| byte == b'.').unwrap_or(mantissa.len());
        let digits = mantissa[..point].iter().chain(mantissa.get(point + 1..).unwrap_or_default());
        if mantissa.len() - (point < mantissa.len()) as usize == 0 {
            return None;
        }
        // The last place that counts is the one of digit number `last`, of those before and behind the point together.
        let last = point as i64 + exponent + PLACES as i64;
        let mut number: i128 = 0;
        let mut count = 0;
        for &digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            let digit = (digit - b'0') as i128;
            if count < last {
                number = number * 10 + digit;
            } else if count == last {
                number += (digit >= 5) as i128;
            }
            if number > DECIMAL_MAX {
                return None;
            }
            count += 1;
        }
        while count < last && number != 0 {
            number *= 10;
            count += 1;
            if number > DECIMAL_MAX {
                return None;
            }
        }
        Some(Decimal(if negative { -number } else { number }))
    }

    pub fn plus(self, other: Decimal) -> Decimal {
        Decimal(self.0 + other.0)
    }
}

/// Exponents beyond these have no number of 17 decimals anyway.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text)
        .ok()?
        .parse()
        .ok()
        .filter(|exponent| (-1000..=1000).contains(exponent))
}

/// Without zeros at the end.
impl std::fmt::Display for Decimal {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let digits = format!("{:0width$}", self.0.unsigned_abs(), width = PLACES + 1);
        let (whole, places) = digits.split_at(digits.len() - PLACES);
        let places = places.trim_end_matches('0');
        let sign = if self.0 < 0 { "-" } else { "" };
        let point = if places.is_empty() { "" } else { "." };
        write!(out, "{sign}{whole}{point}{places}")
    }
}

/// Shortest decimal that reads back the same, never with an exponent.
pub fn format_float(value: f64) -> String {
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_and_rounded_behind_the_last_place() {
        let shown = |text: &str| Decimal::parse(text.as_bytes()).map(|number| number.to_string());
        for (text, expected) in [
            ("0.1", "0.1"),
            ("-0", "0"),
            ("+1.", "1"),
            (".5", "0.5"),
            ("-2.50e1", "-25"),
            ("1e-17", "0.00000000000000001"),
            ("6e-18", "0.00000000000000001"),
            ("4e-18", "0"),
            ("-0.999999999999999996", "-1"),
            ("1e-900", "0"),
            ("100000000000000000000", "100000000000000000000"),
            ("000000000000000000000000000000000000000000000001", "1"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
        for none in [
            "",
            "-",
            ".",
            "e5",
            "1e",
            "1.2.3",
            "1x",
            " 1",
            "nan",
            "inf",
            "1e30",
            "200000000000000000000",
            "0x10",
        ] {
            assert_eq!(shown(none), None, "{none}");
        }
        let sum = Decimal::parse(b"0.1").unwrap().plus(Decimal::parse(b"0.2").unwrap());
        assert_eq!(sum.to_string(), "0.3");
    }

    #[test]
    fn integers_are_read_strictly() {
        assert_eq!(parse_int(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_int(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_int(b"0"), Some(0));
        for wrong in [
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "01",
            "-0",
            "9223372036854775808",
            "1.0",
            "abc",
            "99999999999999999999",
        ] {
            assert_eq!(parse_int(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
