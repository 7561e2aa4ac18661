//! NEON, which every 64-bit ARM processor has.

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::generic::{Simd, kernel_set};

/// Registers of 4 lanes.
struct Neon;

kernel_set! {
    /// For all 64-bit ARM processors.
    pub(super) static SET = "neon", Neon, target_feature(enable = "neon")
}

impl Simd for Neon {
    const LANES: usize = 4;
    type V = float32x4_t;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn zero() -> Self::V {
        vdupq_n_f32(0.0)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        vaddq_f32(a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        vsubq_f32(a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn abs(a: Self::V) -> Self::V {
        vabsq_f32(a)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        vfmaq_f32(c, a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn sum(a: Self::V) -> f32 {
        vaddvq_f32(a)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load_f32(p: *const f32) -> Self::V {
        // SAFETY: the caller vouches for 4 elements.
        unsafe { vld1q_f32(p) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load_f32_part(p: *const f32, n: usize) -> Self::V {
        let mut part = [0.0; 4];
        // SAFETY: the caller vouches for n elements, and n < 4.
        unsafe {
            std::ptr::copy_nonoverlapping(p, part.as_mut_ptr(), n);
            vld1q_f32(part.as_ptr())
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load_f16(p: *const f16) -> Self::V {
        // The intrinsic needs a type that stable Rust does not have; the instruction belongs to base NEON.
        // SAFETY: the caller vouches for 4 elements; the instruction reads and writes registers only.
        unsafe {
            let halves = vld1_u16(p.cast());
            let wide: float32x4_t;
            asm!(
                "fcvtl {wide:v}.4s, {halves:v}.4h",
                wide = lateout(vreg) wide,
                halves = in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags),
            );
            wide
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn load_f16_part(p: *const f16, n: usize) -> Self::V {
        let mut part = [f16::ZERO; 4];
        // SAFETY: the caller vouches for n elements, and n < 4.
        unsafe {
            std::ptr::copy_nonoverlapping(p, part.as_mut_ptr(), n);
            Self::load_f16(part.as_ptr())
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn store_f32(p: *mut f32, a: Self::V) {
        // SAFETY: the caller vouches for room for 4 elements.
        unsafe { vst1q_f32(p, a) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn store_f16(p: *mut f16, a: Self::V) {
        // SAFETY: the caller vouches for room for 4 elements; the instruction reads and writes registers only, in
        // the default rounding mode, to nearest, which Rust programs do not change.
        unsafe {
            let halves: uint16x4_t;
            asm!(
                "fcvtn {halves:v}.4h, {wide:v}.4s",
                halves = lateout(vreg) halves,
                wide = in(vreg) a,
                options(pure, nomem, nostack, preserves_flags),
            );
            vst1_u16(p.cast(), halves);
        }
    }
}
