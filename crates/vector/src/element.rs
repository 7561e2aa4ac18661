//! The two element types, and the rules that both types of vector share.

use half::f16;

use crate::distance::KernelSet;
use crate::distance::dispatch::Kernels;
use crate::{Error, Kind, MAX_DIMENSIONS, Result};

/// Element of a vector: `f32` for `vector`, [`f16`] for `halfvec`.
pub trait Element: Copy + PartialOrd + sealed::Element {
    /// The SQL type whose element this is.
    const KIND: Kind;
    /// Zero.
    const ZERO: Self;

    /// The value as f32, exactly.
    fn to_f32(self) -> f32;

    /// The nearest value (ties to even), infinite if the number is too large.
    fn from_f32_unchecked(value: f32) -> Self;

    /// The nearest value (ties to even). Infinity and NaN pass; see [`Element::check`].
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a finite number becomes infinite.
    #[inline]
    fn from_f32(value: f32) -> Result<Self> {
        let rounded = Self::from_f32_unchecked(value);
        if rounded.is_infinite() && value.is_finite() {
            let mut text = String::new();
            crate::text::push_f32(value, &mut text);
            return Err(Error::OutOfRange { kind: Self::KIND, value: text });
        }
        Ok(rounded)
    }

    /// Whether this is +∞ or −∞.
    fn is_infinite(self) -> bool;

    /// Whether this is not a number.
    fn is_nan(self) -> bool;

    /// Checks that the value may be stored.
    ///
    /// # Errors
    /// [`Error::NotANumber`], [`Error::Infinite`].
    #[inline]
    fn check(self) -> Result<()> {
        if self.is_nan() {
            return Err(Error::NotANumber(Self::KIND));
        }
        if self.is_infinite() {
            return Err(Error::Infinite(Self::KIND));
        }
        Ok(())
    }
}

pub(crate) mod sealed {
    use super::{KernelSet, Kernels};

    /// Only f32 and f16 are elements; this is where each finds its kernels.
    pub trait Element: Sized + 'static {
        fn kernels(set: &'static KernelSet) -> &'static Kernels<Self>;
    }

    impl Element for f32 {
        #[inline]
        fn kernels(set: &'static KernelSet) -> &'static Kernels<Self> {
            &set.f32
        }
    }

    impl Element for half::f16 {
        #[inline]
        fn kernels(set: &'static KernelSet) -> &'static Kernels<Self> {
            &set.f16
        }
    }
}

impl Element for f32 {
    const KIND: Kind = Kind::Vector;
    const ZERO: Self = 0.0;

    #[inline]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline]
    fn from_f32_unchecked(value: f32) -> Self {
        value
    }

    #[inline]
    fn is_infinite(self) -> bool {
        f32::is_infinite(self)
    }

    #[inline]
    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }
}

impl Element for f16 {
    const KIND: Kind = Kind::Halfvec;
    const ZERO: Self = f16::ZERO;

    #[inline]
    fn to_f32(self) -> f32 {
        crate::half::to_f32(self)
    }

    #[inline]
    fn from_f32_unchecked(value: f32) -> Self {
        crate::half::from_f32_unchecked(value)
    }

    #[inline]
    fn is_infinite(self) -> bool {
        f16::is_infinite(self)
    }

    #[inline]
    fn is_nan(self) -> bool {
        f16::is_nan(self)
    }
}

/// Checks a number of dimensions.
///
/// # Errors
/// [`Error::NoDimensions`], [`Error::TooManyDimensions`].
#[inline]
pub fn check_dimensions(kind: Kind, dimensions: usize) -> Result<()> {
    match dimensions {
        0 => Err(Error::NoDimensions(kind)),
        1..=MAX_DIMENSIONS => Ok(()),
        _ => Err(Error::TooManyDimensions(kind)),
    }
}

/// Checks a value against the dimensions of its column; `None` means any.
///
/// # Errors
/// [`Error::UnexpectedDimensions`].
#[inline]
pub fn check_expected_dimensions(expected: Option<usize>, actual: usize) -> Result<()> {
    match expected {
        Some(expected) if expected != actual => Err(Error::UnexpectedDimensions { expected, actual }),
        _ => Ok(()),
    }
}

/// Checks that two vectors have the same number of dimensions.
///
/// # Errors
/// [`Error::DifferentDimensions`].
#[inline]
pub fn check_same_dimensions<T: Element>(left: &[T], right: &[T]) -> Result<()> {
    if left.len() == right.len() {
        return Ok(());
    }
    Err(Error::DifferentDimensions { kind: T::KIND, left: left.len(), right: right.len() })
}
