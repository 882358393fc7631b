//! Kinds of values.

/// Value types. Numbers are stored: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    String = 1,
    Hash = 2,
    List = 3,
    Set = 4,
    Zset = 5,
    /// Parts of large collections (`parts.rs`), in the order of their kinds above. No command sees them as keys.
    HashPart = 6,
    ListPart = 7,
    SetPart = 8,
    ZsetPart = 9,
    /// What a deletion leaves where there are several writers: stamp and node of it, until its deadline. No command sees it.
    Tombstone = 15,
}

impl Kind {
    pub fn from_code(code: u8) -> Option<Kind> {
        match code {
            1 => Some(Kind::String),
            2 => Some(Kind::Hash),
            3 => Some(Kind::List),
            4 => Some(Kind::Set),
            5 => Some(Kind::Zset),
            6 => Some(Kind::HashPart),
            7 => Some(Kind::ListPart),
            8 => Some(Kind::SetPart),
            9 => Some(Kind::ZsetPart),
            15 => Some(Kind::Tombstone),
            _ => None,
        }
    }

    #[inline]
    pub fn is_collection(self) -> bool {
        matches!(self, Kind::Hash | Kind::List | Kind::Set | Kind::Zset)
    }

    /// The kind of this collection's parts.
    pub fn part(self) -> Kind {
        match self {
            Kind::Hash => Kind::HashPart,
            Kind::List => Kind::ListPart,
            Kind::Set => Kind::SetPart,
            Kind::Zset => Kind::ZsetPart,
            other => unreachable!("{other:?} has no parts"),
        }
    }

    /// As TYPE answers; "part" for a part.
    pub fn name_in_log(self) -> &'static str {
        match self {
            Kind::HashPart | Kind::ListPart | Kind::SetPart | Kind::ZsetPart => "part",
            kind => kind.name(),
        }
    }

    /// As TYPE answers.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Hash => "hash",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Zset => "zset",
            Kind::HashPart | Kind::ListPart | Kind::SetPart | Kind::ZsetPart | Kind::Tombstone => "none",
        }
    }
}
