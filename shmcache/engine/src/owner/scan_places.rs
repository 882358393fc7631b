//! Where walks through large sorted sets go on.

use std::collections::VecDeque;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Places that an owner keeps, the latest ones.
const PLACES_MAX: usize = 256;

#[derive(Default)]
pub struct ScanPlaces(VecDeque<Place>);

/// The last member given, with what it is sorted by.
pub struct Place {
    cursor: u64,
    collection: u64,
    pub sort: u64,
    pub name: Vec<u8>,
}

impl ScanPlaces {
    /// The cursor of a place. The same place has the same cursor.
    pub fn keep(&mut self, collection: u64, sort: u64, name: &[u8]) -> u64 {
        // Never 0, and few enough bits for the integers of every client.
        let cursor = (xxh3_64_with_seed(name, collection ^ sort) >> 16) | 1;
        self.0.retain(|place| place.cursor != cursor);
        if self.0.len() >= PLACES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Place {
            cursor,
            collection,
            sort,
            name: name.to_vec(),
        });
        cursor
    }

    /// None: it is forgotten.
    pub fn find(&self, cursor: u64, collection: u64) -> Option<&Place> {
        self.0
            .iter()
            .rev()
            .find(|place| place.cursor == cursor && place.collection == collection)
    }
}
