//! A list whose memory is used again and again, though its items live for one batch only.
//!
//! A worker allocates no memory while it moves frames, so its lists are made once. Their items
//! borrow the ring or the frames of one batch. A plain `Vec` would have to name that lifetime, and
//! could not outlive it. A [`Reused`] list keeps the memory and names the lifetime anew each time
//! it is lent.
//!
//! It is sound because a lent list is always empty at first, and reachable only during the loan.
//! Items of an earlier loan are never read again: items are `Copy`, so none needs to be dropped.

use std::fmt;

/// A kind of item that borrows something. The items of all lifetimes are one type but for that.
pub trait Family {
    /// An item that borrows for `'a`.
    type Item<'a>: Copy;
}

/// The memory of a list.
pub struct Reused<F: Family>(Vec<F::Item<'static>>);

// SAFETY: between two loans the list counts as empty. Its memory's old bytes are never read.
unsafe impl<F: Family> Send for Reused<F> {}

impl<F: Family> Reused<F> {
    /// Memory for a list of `count` items.
    pub fn with_capacity(count: usize) -> Reused<F> {
        Reused(Vec::with_capacity(count))
    }

    /// An empty list of items that borrow for `'a`.
    #[inline]
    pub fn lend<'s, 'a: 's>(&'s mut self) -> &'s mut Vec<F::Item<'a>> {
        self.0.clear();
        // SAFETY: types that differ in a lifetime only have the same layout. The list is empty, and
        // its items can be read through this loan only, during which they are valid: the next loan
        // clears the list first, and items are Copy, so no code runs at their end.
        unsafe { &mut *(&raw mut self.0).cast::<Vec<F::Item<'a>>>() }
    }
}

impl<F: Family> fmt::Debug for Reused<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reused({} items)", self.0.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbers;
    impl Family for Numbers {
        type Item<'a> = &'a str;
    }

    #[test]
    fn every_loan_begins_empty_and_keeps_the_memory() {
        let mut memory = Reused::<Numbers>::with_capacity(4);
        let place = memory.lend().as_ptr();
        for round in 0..3 {
            let word = format!("round {round}");
            let list = memory.lend();
            assert!(list.is_empty());
            list.push(&word);
            assert_eq!((list.as_slice(), list.as_ptr()), (&[word.as_str()][..], place));
        }
    }
}
