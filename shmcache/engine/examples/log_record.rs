//! What a log record costs the owner: encoding, checksum and the copy into the ring, for 16-byte keys and 64-byte values.
//! cargo run --release --no-default-features --example log_record

use _engine::layout::Kind;
use _engine::log::{Effect, LogWriter, Record};
use std::os::fd::AsFd;
use std::time::Instant;

fn main() -> std::io::Result<()> {
    let path = format!("/dev/shm/shmcache.example.{}", std::process::id());
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    let mut log = LogWriter::create(file.as_fd(), 16 << 20)?;
    let value = [7u8; 64];
    let mut rounds = Vec::new();
    for _ in 0..11 {
        const RECORDS: u32 = 1_000_000;
        let begun = Instant::now();
        for number in 0..RECORDS {
            let mut key = *b"key:000000000000";
            key[8..12].copy_from_slice(&number.to_le_bytes());
            log.stage(Record {
                seq: 0,
                stamp: number as u64,
                epoch: 0,
                node: 0,
                effect: Effect::Set,
                event: 0,
                kind: Kind::String,
                more: false,
                deadline: 0,
                key: &key,
                value: &value,
            });
            log.commit();
        }
        rounds.push(begun.elapsed().as_nanos() as f64 / RECORDS as f64);
    }
    rounds.sort_by(f64::total_cmp);
    println!(
        "a record of 128 bytes: {:.1} ns (median of 11 rounds of a million; {:.1} to {:.1})",
        rounds[5], rounds[0], rounds[10]
    );
    Ok(())
}
