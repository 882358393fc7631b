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
    let wrong = || Fail::err("value is not a valid float");
    let value: f64 = std::str::from_utf8(text).map_err(|_| wrong())?.parse().map_err(|_| wrong())?;
    if value.is_nan() {
        return Err(wrong());
    }
    Ok(value)
}

/// Shortest decimal that reads back the same, never with an exponent.
pub fn format_float(value: f64) -> String {
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

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
