//! Requests and replies of the Redis protocol, for the gateway: whole commands out of what was read, and reads answered at once.
//!
//! Only what is plainly a whole, well-formed array of bulk strings is taken. All else (inline commands, what is cut off, what is wrong) is left to
//! the caller, who takes it up where this ends.

use crate::commands::reply::Sink;

/// Arguments of one command that are taken here; longer ones go the caller's way.
const ARGUMENTS_MAX: usize = 1024 * 1024;
const BULK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Digits of a length: enough for both limits.
const DIGITS_MAX: usize = 9;

/// `<mark><digits>\r\n` at a place: the number, and where it goes on.
#[inline]
fn length(data: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    if *data.get(at)? != mark {
        return None;
    }
    let mut number = 0;
    let mut place = at + 1;
    loop {
        match *data.get(place)? {
            digit @ b'0'..=b'9' if place - at <= DIGITS_MAX => number = number * 10 + (digit - b'0') as usize,
            b'\r' if place > at + 1 && *data.get(place + 1)? == b'\n' => break,
            _ => return None,
        }
        place += 1;
    }
    // A leading zero is no number that Redis takes.
    (data[at + 1] != b'0' || place == at + 2).then_some((number, place + 2))
}

/// The arguments of the command that begins at a place, and where the next begins; None unless it is whole and well-formed.
#[inline]
pub fn next_command<'a>(data: &'a [u8], at: usize, args: &mut Vec<&'a [u8]>) -> Option<usize> {
    args.clear();
    let (count, mut place) = length(data, at, b'*')?;
    if count == 0 || count > ARGUMENTS_MAX {
        return None;
    }
    for _ in 0..count {
        let (bytes, begin) = length(data, place, b'$')?;
        if bytes > BULK_BYTES_MAX {
            return None;
        }
        let end = begin + bytes;
        // Its last two bytes are a line end, or whatever the client sent: Redis does not look either.
        if end + 2 > data.len() {
            return None;
        }
        args.push(&data[begin..end]);
        place = end + 2;
    }
    Some(place)
}

/// Replies as RESP2, or as RESP3 where that differs only in its nil.
pub struct RespSink {
    pub out: Vec<u8>,
    pub resp3: bool,
}

impl RespSink {
    fn line(&mut self, mark: u8, number: i64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut left = number.unsigned_abs();
        loop {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        self.out.push(mark);
        if number < 0 {
            self.out.push(b'-');
        }
        self.out.extend_from_slice(&digits[at..]);
        self.out.extend_from_slice(b"\r\n");
    }
}

impl Sink for RespSink {
    fn nil(&mut self) {
        self.out.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    fn int(&mut self, value: i64) {
        self.line(b':', value);
    }

    fn bytes(&mut self, data: &[u8]) {
        self.line(b'$', data.len() as i64);
        self.out.extend_from_slice(data);
        self.out.extend_from_slice(b"\r\n");
    }

    fn status(&mut self, text: &str) {
        self.out.push(b'+');
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn array(&mut self, length: usize) {
        self.line(b'*', length as i64);
    }

    fn error(&mut self, code: &str, message: &str) {
        self.out.push(b'-');
        self.out.extend_from_slice(code.as_bytes());
        self.out.push(b' ');
        // One line, whatever the message quotes.
        self.out.extend(
            message
                .bytes()
                .map(|byte| if byte == b'\r' || byte == b'\n' { b' ' } else { byte }),
        );
        self.out.extend_from_slice(b"\r\n");
    }

    fn mark(&self) -> usize {
        self.out.len()
    }

    fn rewind(&mut self, mark: usize) {
        self.out.truncate(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(data: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
        let mut args = Vec::new();
        next_command(data, 0, &mut args).map(|end| (args, end))
    }

    #[test]
    fn whole_commands_are_taken() {
        assert_eq!(
            taken(b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n*1"),
            Some((vec![&b"GET"[..], &b"\r\n"[..]], 21))
        );
        assert_eq!(taken(b"*1\r\n$0\r\n\r\n"), Some((vec![&b""[..]], 10)));
    }

    #[test]
    fn all_else_is_left() {
        let whole = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
        for end in 0..whole.len() {
            assert_eq!(taken(&whole[..end]), None);
        }
        for other in [
            &b"PING\r\n"[..],
            b"*0\r\n",
            b"*-1\r\n",
            b"*01\r\n$1\r\na\r\n",
            b"*1\r\n$01\r\na\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n+a\r\n",
            b"*1\r\n*1\r\n$1\r\na\r\n",
            b"*1\r\n$9999999999999999999999\r\na\r\n",
            b"*\r\n",
            b"*1\n$1\na\n",
        ] {
            assert_eq!(taken(other), None);
        }
    }
}
