//! Bitmaps in the formats of the processors, in a block of pages.

use super::page::WORDS;
use super::{PAGE, Page};

/// The bitmap in the block that begins with this page. Numbers of bits and words are below the block's size.
#[derive(Clone, Copy, Debug)]
pub struct Bitmap(pub Page);

impl Bitmap {
    /// Page and place in it of a word.
    fn place(self, index: usize) -> (Page, usize) {
        let page = self.0.phys().offset((index / WORDS) as u64 * PAGE);
        (Page::at(page), index % WORDS)
    }

    /// Word `index`: bits from `64 * index` on.
    pub fn word(self, index: usize) -> u64 {
        let (page, index) = self.place(index);
        page.read(index)
    }

    /// Bit `number`.
    pub fn get(self, number: u64) -> bool {
        self.word((number / 64) as usize) & 1 << (number % 64) != 0
    }

    /// Sets bit `number` to `value`. Changes of a bitmap are for the caller to serialise.
    pub fn set(self, number: u64, value: bool) {
        let (page, index) = self.place((number / 64) as usize);
        let others = page.read(index) & !(1 << (number % 64));
        page.write(index, others | u64::from(value) << (number % 64));
    }
}
