//! Retrieved chunks → passages: what overlaps or says the same becomes one.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// A retrieved chunk.
#[derive(Debug, Clone)]
pub struct Piece<'a> {
    /// Number of the document that it is of.
    pub document: i64,
    /// Which chunk of the document.
    pub ordinal: i32,
    /// Its characters of the document's text.
    pub characters: Range<i32>,
    /// Its text.
    pub content: &'a str,
}

/// Chunks of one document that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Index of the best of the pieces that it is made of.
    pub best: usize,
    /// Its first chunk.
    pub first: i32,
    /// Its last chunk.
    pub last: i32,
}

/// The first `k` passages of `pieces` (best first), in the order of their best pieces, each with `expand` chunks before and
/// after it. A piece joins the better one of its document that it overlaps or, with neighbours, adjoins; one with the same
/// words as a better one is dropped.
pub fn merge(pieces: &[Piece<'_>], k: usize, expand: i32) -> Vec<Passage> {
    let mut passages: Vec<Option<Extent>> = Vec::new();
    let mut of_document: HashMap<i64, Vec<usize>> = HashMap::new();
    let mut said = HashSet::new();
    let mut live = 0;
    for (best, piece) in pieces.iter().enumerate() {
        let words: Vec<&str> = piece.content.split_whitespace().collect();
        if !said.insert(words) {
            continue;
        }
        let (first, last) =
            (piece.ordinal.saturating_sub(expand).max(0), piece.ordinal.saturating_add(expand));
        let mut whole =
            Extent { passage: Passage { best, first, last }, characters: piece.characters.clone() };
        let known = of_document.entry(piece.document).or_default();
        // What joins one passage can bring it to another.
        let mut place = None;
        while let Some(i) =
            known.iter().position(|&i| passages[i].as_ref().is_some_and(|p| p.touches(&whole, expand)))
        {
            let i = known.swap_remove(i);
            if let Some(other) = passages[i].take() {
                whole = whole.with(&other);
                live -= 1;
            }
            place = Some(place.map_or(i, |p: usize| p.min(i)));
        }
        let place = match place {
            Some(place) => place,
            None if live < k => {
                passages.push(None);
                passages.len() - 1
            }
            None => break,
        };
        passages[place] = Some(whole);
        known.push(place);
        live += 1;
    }
    passages.into_iter().flatten().map(|extent| extent.passage).collect()
}

/// What a passage covers.
struct Extent {
    passage: Passage,
    /// Characters of the pieces that it was found by.
    characters: Range<i32>,
}

impl Extent {
    fn touches(&self, other: &Self, expand: i32) -> bool {
        let gap = i32::from(expand > 0);
        let shares_chunks = self.passage.first <= other.passage.last.saturating_add(gap)
            && other.passage.first <= self.passage.last.saturating_add(gap);
        let shares_text =
            self.characters.start < other.characters.end && other.characters.start < self.characters.end;
        shares_chunks || shares_text
    }

    fn with(self, other: &Self) -> Self {
        Self {
            passage: Passage {
                best: self.passage.best.min(other.passage.best),
                first: self.passage.first.min(other.passage.first),
                last: self.passage.last.max(other.passage.last),
            },
            characters: self.characters.start.min(other.characters.start)
                ..self.characters.end.max(other.characters.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(document: i64, ordinal: i32, characters: Range<i32>, content: &str) -> Piece<'_> {
        Piece { document, ordinal, characters, content }
    }

    #[test]
    fn what_overlaps_becomes_one() {
        let pieces = [
            piece(1, 4, 40..60, "a"),
            piece(2, 4, 0..5, "b"),
            piece(1, 5, 55..70, "c"),
            piece(1, 9, 90..99, "d"),
        ];
        let passage = |best, first, last| Passage { best, first, last };
        assert_eq!(merge(&pieces, 5, 0), [passage(0, 4, 5), passage(1, 4, 4), passage(3, 9, 9)]);
        assert_eq!(merge(&pieces, 2, 0), [passage(0, 4, 5), passage(1, 4, 4)]);
        assert_eq!(merge(&pieces, 5, 2), [passage(0, 2, 11), passage(1, 2, 6)]);
    }

    #[test]
    fn neighbours_join_what_they_adjoin() {
        let pieces = [piece(1, 0, 0..5, "a"), piece(1, 6, 60..65, "b"), piece(1, 3, 30..35, "c")];
        assert_eq!(merge(&pieces, 5, 1), [Passage { best: 0, first: 0, last: 7 }]);
        assert_eq!(merge(&pieces, 5, 0).len(), 3);
    }

    #[test]
    fn what_says_the_same_is_one() {
        let pieces = [piece(1, 0, 0..3, "a b"), piece(2, 0, 0..3, "a\nb "), piece(3, 0, 0..3, "A b")];
        let best: Vec<usize> = merge(&pieces, 5, 0).iter().map(|p| p.best).collect();
        assert_eq!(best, [0, 2]);
    }

    #[test]
    fn neighbours_end_at_the_document_s_beginning() {
        assert_eq!(
            merge(&[piece(1, 0, 0..3, "a")], 1, i32::MAX),
            [Passage { best: 0, first: 0, last: i32::MAX }]
        );
        assert!(merge(&[piece(1, 0, 0..3, "a")], 0, 0).is_empty());
    }
}
