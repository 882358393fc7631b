//! Scores as text, and the bounds of ranges: as C's strtod reads them and printf's `%.17g` writes them, which is what Redis 7.0 does.

use super::Fail;

/// All of the text as a number: decimal, hexadecimal (`0x1.8p3`) or infinite. Out of the range of doubles: infinite or zero.
fn number_of(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => {
            let value = hexadecimal(digits)?;
            Some(if text.starts_with('-') { -value } else { value })
        }
        None => text.parse().ok().filter(|value: &f64| !value.is_nan()),
    }
}

/// Digits behind `0x`. (Those beyond 53 bits are rounded one by one: the last bit may be another than C's.)
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = match text.split_once(['p', 'P']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?.clamp(-3000, 3000)),
        None => (text, 0),
    };
    let (whole, places) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && places.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for digit in whole.chars().chain(places.chars()) {
        value = value * 16.0 + digit.to_digit(16)? as f64;
    }
    let exponent = exponent - 4 * places.len().min(1000) as i32;
    // In two steps, for a power alone may be out of range where the product is not.
    Some(value * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2))
}

/// Infinite though no infinity was written, or zero though the digits are not.
fn is_out_of_range(text: &[u8], value: f64) -> bool {
    let has = |wanted: fn(&u8) -> bool| text.iter().take_while(|byte| !byte.eq_ignore_ascii_case(&b'e')).any(wanted);
    (value.is_infinite() && !has(|byte| byte.eq_ignore_ascii_case(&b'n')))
        || (value == 0.0 && has(|byte| (b'1'..=b'9').contains(byte)))
}

/// A score; never NaN.
pub fn score_arg(text: &[u8]) -> Result<f64, Fail> {
    number_of(text)
        .filter(|&value| !is_out_of_range(text, value))
        .ok_or_else(|| Fail::err("value is not a valid float"))
}

/// Longest score as text, bytes.
pub const SCORE_TEXT_MAX: usize = 32;

/// A score as Redis writes it.
pub fn format_score(score: f64) -> String {
    if score.is_infinite() {
        return if score < 0.0 { "-inf" } else { "inf" }.to_string();
    }
    if score == score.trunc() && score.abs() < 1e17 && (score != 0.0 || score.is_sign_positive()) {
        return (score as i64).to_string();
    }
    let text = format!("{score:.16e}");
    let (mantissa, exponent) = text.split_once('e').expect("it was asked for");
    let exponent: i32 = exponent.parse().expect("a number");
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(|&char| char != '.').collect();
    let digits = digits.trim_end_matches('0');
    let point = |digits: &str, at: usize| match digits.split_at(at.min(digits.len())) {
        (whole, "") => format!("{whole:0<at$}"),
        (whole, places) => format!("{whole}.{places}"),
    };
    match exponent {
        _ if digits.is_empty() => format!("{sign}0"),
        0..=16 => format!("{sign}{}", point(digits, exponent as usize + 1)),
        -4..=-1 => format!("{sign}0.{}{digits}", "0".repeat((-1 - exponent) as usize)),
        _ => {
            let letter = if exponent < 0 { '-' } else { '+' };
            format!("{sign}{}e{letter}{:02}", point(digits, 1), exponent.abs())
        }
    }
}

/// One end of a range of scores.
#[derive(Clone, Copy, Debug)]
pub struct ScoreBound {
    pub score: f64,
    pub excluded: bool,
}

impl ScoreBound {
    pub fn parse(text: &[u8]) -> Result<ScoreBound, Fail> {
        let (excluded, text) = match text.split_first() {
            Some((b'(', rest)) => (true, rest),
            _ => (false, text),
        };
        // As strtod has it: blanks may stand before, and nothing at all is zero.
        let text = text.trim_ascii_start();
        let score = if text.is_empty() { Some(0.0) } else { number_of(text) };
        let score = score.ok_or_else(|| Fail::err("min or max is not a float"))?;
        Ok(ScoreBound { score, excluded })
    }

    /// As the lower end: a score lies before the range.
    #[inline]
    pub fn is_above(&self, score: f64) -> bool {
        score < self.score || self.excluded && score == self.score
    }

    /// As the upper end: a score lies in the range or before it.
    #[inline]
    pub fn reaches(&self, score: f64) -> bool {
        score < self.score || !self.excluded && score == self.score
    }
}

/// One end of a range of members that have equal scores.
#[derive(Clone, Copy, Debug)]
pub enum LexBound<'a> {
    /// Before all.
    Lowest,
    /// Behind all.
    Highest,
    Included(&'a [u8]),
    Excluded(&'a [u8]),
}

impl<'a> LexBound<'a> {
    pub fn parse(text: &'a [u8]) -> Result<LexBound<'a>, Fail> {
        match text {
            b"-" => Ok(LexBound::Lowest),
            b"+" => Ok(LexBound::Highest),
            [b'[', rest @ ..] => Ok(LexBound::Included(rest)),
            [b'(', rest @ ..] => Ok(LexBound::Excluded(rest)),
            _ => Err(Fail::err("min or max not valid string range item")),
        }
    }

    /// As `ScoreBound::is_above`.
    pub fn is_above(&self, member: &[u8]) -> bool {
        match self {
            LexBound::Lowest => false,
            LexBound::Highest => true,
            LexBound::Included(bound) => member < *bound,
            LexBound::Excluded(bound) => member <= *bound,
        }
    }

    /// As `ScoreBound::reaches`.
    pub fn reaches(&self, member: &[u8]) -> bool {
        match self {
            LexBound::Lowest => false,
            LexBound::Highest => true,
            LexBound::Included(bound) => member <= *bound,
            LexBound::Excluded(bound) => member < *bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_written_as_redis_writes_them() {
        for (score, expected) in [
            (3.0, "3"),
            (-0.0, "-0"),
            (0.1, "0.10000000000000001"),
            (3.1, "3.1000000000000001"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (-1e20, "-1e+20"),
            (1.5e300, "1.5000000000000001e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (1e-7, "9.9999999999999995e-08"),
            (5e-324, "4.9406564584124654e-324"),
            (4503599627370495.5, "4503599627370495.5"),
            (123456789012345678.0, "1.2345678901234568e+17"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format_score(score), expected);
            assert!(expected.len() <= SCORE_TEXT_MAX);
        }
    }

    #[test]
    fn scores_are_read_as_strtod_reads_them() {
        let read = |text: &str| score_arg(text.as_bytes()).ok();
        for (text, expected) in [
            ("0x10", 16.0),
            ("-0x1.8p1", -3.0),
            ("+5", 5.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("INF", f64::INFINITY),
            ("0e5", 0.0),
            ("-infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
        }
        for text in ["", " 1", "1 ", "nan", "1_0", "1e400", "1e-400", "0x", "0xg", "12a", "-", "1e"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(
            ScoreBound::parse(b"( 1").map(|bound| (bound.score, bound.excluded)),
            Ok((1.0, true))
        );
        assert!(ScoreBound::parse(b"1 ").is_err());
    }
}
