//! Nothing: the benches in `benches/` are all there is. They tell, in the host's time, which part of an exit's path has become
//! slower; what an exit costs as a whole is counted by `./x bench guest`.
#![forbid(unsafe_code)]
