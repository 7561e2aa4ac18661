//! Matrices that stay at the width of their file's codes: [`unpack`] reads GGUF's blocks, [`packed`] lays them out for
//! vector instructions, [`split`] in two planes, [`kernel`] multiplies.

pub mod kernel;
pub mod packed;
pub mod split;
pub mod unpack;
