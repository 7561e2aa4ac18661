//! Arrays of eight lanes, which the compiler turns into whatever every processor of the architecture has.

use half::f16;

use super::generic::{Simd, kernel_set};

/// Eight lanes in an array.
struct Portable;

kernel_set! {
    /// Kernels without special instructions.
    pub(super) static SET = "portable", Portable, inline
}

impl Simd for Portable {
    const LANES: usize = 8;
    type V = [f32; 8];

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        [0.0; 8]
    }

    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    unsafe fn abs(a: Self::V) -> Self::V {
        a.map(f32::abs)
    }

    #[inline(always)]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Not `f32::mul_add`, which is a slow function where the processor has no such instruction.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    unsafe fn sum(a: Self::V) -> f32 {
        let b: [f32; 4] = std::array::from_fn(|i| a[i] + a[i + 4]);
        (b[0] + b[2]) + (b[1] + b[3])
    }

    #[inline(always)]
    unsafe fn load_f32(p: *const f32) -> Self::V {
        // SAFETY: the caller vouches for 8 elements; an array is aligned as its elements are.
        unsafe { *p.cast() }
    }

    #[inline(always)]
    unsafe fn load_f32_part(p: *const f32, n: usize) -> Self::V {
        let mut a = [0.0; 8];
        // SAFETY: the caller vouches for n elements, and n < 8.
        unsafe { std::ptr::copy_nonoverlapping(p, a.as_mut_ptr(), n) };
        a
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self::V {
        // SAFETY: the caller vouches for 8 elements; an array is aligned as its elements are.
        let halves: [f16; 8] = unsafe { *p.cast() };
        halves.map(crate::half::to_f32)
    }

    #[inline(always)]
    unsafe fn load_f16_part(p: *const f16, n: usize) -> Self::V {
        let mut halves = [f16::ZERO; 8];
        // SAFETY: the caller vouches for n elements, and n < 8.
        unsafe { std::ptr::copy_nonoverlapping(p, halves.as_mut_ptr(), n) };
        halves.map(crate::half::to_f32)
    }

    #[inline(always)]
    unsafe fn store_f32(p: *mut f32, a: Self::V) {
        // SAFETY: the caller vouches for room for 8 elements.
        unsafe { *p.cast() = a }
    }

    #[inline(always)]
    unsafe fn store_f16(p: *mut f16, a: Self::V) {
        // SAFETY: the caller vouches for room for 8 elements.
        unsafe { *p.cast() = a.map(crate::half::from_f32_unchecked) }
    }
}
