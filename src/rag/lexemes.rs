//! `tsvector` in PostgreSQL's memory: the words of a text, sorted, each with the places where it stands.
//!
//! Layout: varlena header (4 bytes), number of words (4 bytes), an entry for each (bit 0: whether places are kept, 11 bits
//! length, 20 bits start), then the bytes of all words; places follow their word at the next even byte, a count and that
//! many, of 2 bytes each.

use std::cmp::Ordering;
use std::marker::PhantomData;

use pgrx::PgSqlErrorCode as Code;
use pgrx::pg_sys::{self, Datum};
use pgrx::varlena::varsize_4b;

use crate::error::Report;

/// The words of a stored or computed `tsvector`.
pub struct Lexemes<'a> {
    stored: *mut pg_sys::varlena,
    plain: *mut pg_sys::varlena,
    borrowed: PhantomData<&'a u8>,
}

/// Bytes of the header and of an entry.
const HEADER: usize = 8;
const ENTRY: usize = 4;

impl Lexemes<'_> {
    /// Views the value of a datum, detoasted if need be.
    ///
    /// # Safety
    /// The datum points to a `tsvector` that stays valid during `'a`.
    pub unsafe fn from_datum(datum: Datum) -> Self {
        let stored = datum.cast_mut_ptr::<pg_sys::varlena>();
        // SAFETY: the caller vouches for the varlena.
        let plain = unsafe { pg_sys::pg_detoast_datum(stored) };
        Self { stored, plain, borrowed: PhantomData }
    }

    /// Words with the number of places where each stands, 1 where none are kept, in the order of their bytes.
    pub fn counts(&self) -> impl Iterator<Item = (&[u8], i32)> {
        // SAFETY: a detoasted varlena is as long as its header says.
        let bytes: &[u8] =
            unsafe { std::slice::from_raw_parts(self.plain.cast::<u8>(), varsize_4b(self.plain)) };
        let words = usize::try_from(number::<4>(bytes, ENTRY).map_or(0, i32::from_ne_bytes)).unwrap_or(0);
        let strings = bytes.get(HEADER + words.saturating_mul(ENTRY)..).unwrap_or_else(|| corrupted());
        (0..words).map(move |i| {
            let entry = number(bytes, HEADER + i * ENTRY).map_or(0, u32::from_ne_bytes);
            let (length, start) = ((entry >> 1 & 0x7ff) as usize, (entry >> 12) as usize);
            let word = strings.get(start..start + length).unwrap_or_else(|| corrupted());
            let places = if entry & 1 == 1 {
                let at = (start + length).next_multiple_of(2);
                number(strings, at).map(u16::from_ne_bytes).unwrap_or_else(|| corrupted())
            } else {
                1
            };
            (word, i32::from(places))
        })
    }

    /// How often each word of `question` stands here, in its order, then how many words stand here in all.
    pub fn counts_of(&self, question: &Lexemes<'_>) -> Vec<i32> {
        let mut length = 0;
        let mut asked = question.counts().map(|(word, _)| word).peekable();
        let mut counts = Vec::new();
        for (word, places) in self.counts() {
            length += places;
            while asked.next_if(|wanted| wanted.cmp(&word) == Ordering::Less).is_some() {
                counts.push(0);
            }
            if asked.next_if_eq(&word).is_some() {
                counts.push(places);
            }
        }
        counts.extend(asked.map(|_| 0));
        counts.push(length);
        counts
    }
}

impl Drop for Lexemes<'_> {
    fn drop(&mut self) {
        if self.plain != self.stored {
            // SAFETY: detoasting allocated it for this value alone.
            unsafe { pg_sys::pfree(self.plain.cast()) };
        }
    }
}

/// The `N` bytes at `at`, if there are so many.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied()
}

#[cold]
fn corrupted() -> ! {
    Report::new(Code::ERRCODE_DATA_CORRUPTED, "a tsvector is damaged").raise()
}
