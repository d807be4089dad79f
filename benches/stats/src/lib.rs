//! What measuring programs make of their samples, and the lines that they print: the format that `./x bench` reads.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, missing_docs, reason = "tests state their expectations tersely"))]

mod line;
mod summary;

pub use line::{END, FORMAT, HistogramLine, RowLine, Unit};
pub use summary::{Histogram, Summary, bucket};
