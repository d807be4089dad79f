//! Bitmaps in the formats of the processors.

use super::object::Word;
use super::page::WORDS;
use super::{PAGE, Page, Phys};
use crate::pd::Pd;
use abi::status::Status;

/// A bitmap inside an object: the address of its block of `2^ORDER` pages, or 0. Numbers of bits and words are below the block's size.
#[derive(Default)]
#[repr(transparent)]
pub struct Bitmap<const ORDER: usize>(Word);

impl<const ORDER: usize> Bitmap<ORDER> {
    /// Takes a block of ones that `payer` pays for.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn init(&self, payer: &Pd) -> Result<(), Status> {
        self.0.set(payer.alloc_filled(ORDER, u64::MAX)?.virt());
        Ok(())
    }

    /// Returns the block, if there is one.
    pub fn release(&self, payer: &Pd) {
        if self.0.get() != 0 {
            payer.free(self.block(), ORDER);
        }
    }

    fn block(&self) -> Page {
        Page::at_virt(self.0.get())
    }

    /// Physical address.
    pub fn phys(&self) -> Phys {
        self.block().phys()
    }

    /// Page and place in it of a word.
    fn place(&self, index: usize) -> (Page, usize) {
        let page = self.0.get() + (index / WORDS) as u64 * PAGE;
        (Page::at_virt(page), index % WORDS)
    }

    /// Word `index`: bits from `64 * index` on.
    pub fn word(&self, index: usize) -> u64 {
        let (page, index) = self.place(index);
        page.read(index)
    }

    /// Bit `number`.
    pub fn get(&self, number: u64) -> bool {
        self.word((number / 64) as usize) & 1 << (number % 64) != 0
    }

    /// Sets bit `number` to `value`. Changes of a bitmap are for the caller to serialise.
    pub fn set(&self, number: u64, value: bool) {
        let (page, index) = self.place((number / 64) as usize);
        let others = page.read(index) & !(1 << (number % 64));
        page.write(index, others | u64::from(value) << (number % 64));
    }
}
