//! Replies are written into a sink as they arise: msgpack for the wire, Python objects in the bindings.

use rmp::encode as mp;

pub trait Sink {
    fn nil(&mut self);
    fn int(&mut self, value: i64);
    fn bytes(&mut self, data: &[u8]);
    /// A status such as "OK".
    fn status(&mut self, text: &str);
    /// The next `length` replies are its elements.
    fn array(&mut self, length: usize);
    fn error(&mut self, code: &str, message: &str);
    /// Where the reply in progress begins; `rewind` takes back what came after.
    fn mark(&self) -> usize;
    fn rewind(&mut self, mark: usize);

    fn ok(&mut self) {
        self.status("OK");
    }

    fn flag(&mut self, value: bool) {
        self.int(value as i64);
    }
}

/// Type of the msgpack extension that carries an error: data is msgpack `[code, message]`.
pub const ERROR_EXTENSION: i8 = 1;

/// msgpack as `docs/protocol.md` has it. Writing into a Vec cannot fail.
impl Sink for Vec<u8> {
    #[inline]
    fn nil(&mut self) {
        self.push(0xc0);
    }

    #[inline]
    fn int(&mut self, value: i64) {
        mp::write_sint(self, value).expect("a Vec takes everything");
    }

    #[inline]
    fn bytes(&mut self, data: &[u8]) {
        mp::write_bin(self, data).expect("a Vec takes everything");
    }

    #[inline]
    fn status(&mut self, text: &str) {
        mp::write_str(self, text).expect("a Vec takes everything");
    }

    #[inline]
    fn array(&mut self, length: usize) {
        mp::write_array_len(self, length as u32).expect("a Vec takes everything");
    }

    fn error(&mut self, code: &str, message: &str) {
        let mut data = Vec::with_capacity(code.len() + message.len() + 8);
        data.array(2);
        data.status(code);
        data.status(message);
        mp::write_ext_meta(self, data.len() as u32, ERROR_EXTENSION).expect("a Vec takes everything");
        self.extend_from_slice(&data);
    }

    fn mark(&self) -> usize {
        self.len()
    }

    fn rewind(&mut self, mark: usize) {
        self.truncate(mark);
    }
}
