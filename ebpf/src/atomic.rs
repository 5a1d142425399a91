//! Atomic words in map values. Rust's own atomics have no read-modify-write on this target, though the machine has
//! (kernel 5.12 and later).

use core::arch::asm;

/// A 64-bit word that several CPUs change at once.
#[derive(Clone, Copy)]
pub(crate) struct Atomic(*mut u64);

impl Atomic {
    /// # Safety
    /// `word` must point to an aligned word of a map value, valid while the program runs.
    #[inline(always)]
    pub(crate) unsafe fn new(word: *mut u64) -> Self {
        Self(word)
    }

    #[inline(always)]
    pub(crate) fn load(&self) -> u64 {
        // SAFETY: aligned and valid (see `new`); an aligned load of a word is one instruction.
        unsafe { self.0.read_volatile() }
    }

    /// Adds (wrapping); returns what was there before.
    #[inline(always)]
    pub(crate) fn fetch_add(&self, value: u64) -> u64 {
        let mut word = value;
        // SAFETY: aligned and valid (see `new`).
        unsafe { asm!("{v} = atomic_fetch_add((u64 *)({p} + 0), {v})", p = in(reg) self.0, v = inout(reg) word) };
        word
    }

    /// Puts `value` there; returns what was there before.
    #[inline(always)]
    pub(crate) fn swap(&self, value: u64) -> u64 {
        let mut word = value;
        // SAFETY: aligned and valid (see `new`).
        unsafe { asm!("{v} = xchg_64({p} + 0, {v})", p = in(reg) self.0, v = inout(reg) word) };
        word
    }

    /// Puts `new` there if `current` is there; returns what was there before.
    #[inline(always)]
    pub(crate) fn compare_exchange(&self, current: u64, new: u64) -> u64 {
        let mut word = current;
        // SAFETY: aligned and valid (see `new`).
        unsafe {
            asm!("r0 = cmpxchg_64({p} + 0, r0, {n})", p = in(reg) self.0, n = in(reg) new, inout("r0") word);
        }
        word
    }
}
