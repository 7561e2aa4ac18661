//! Matrices that stay at the width of their file's codes: [`unpack`] reads GGUF's blocks, [`packed`] lays them out for
//! vector instructions, [`kernel`] multiplies.

pub mod kernel;
pub mod packed;
pub mod unpack;

/// Room for `n` items, or an error instead of an abort when memory is short.
pub fn room<T: Clone>(n: usize, value: T) -> crate::Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(n)
        .map_err(|_| crate::Error::Internal("not enough memory for the model".to_owned()))?;
    all.resize(n, value);
    Ok(all)
}
