//! Arithmetic of the encoder: matrix products and what happens between them.
//!
//! Each kernel is one portable body, written so that the compiler vectorises it, and compiled once per
//! instruction set; [`Level`] chooses at run time, because the library is built for the oldest processor
//! of its architecture.

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod math;
mod norm;
mod product;

pub use attention::{Head, Scratch, attend, for_blocks};
pub use math::{gelu_lines, gelu_tanh_lines, lines, relu_lines};
pub use norm::{Norm, normalize};
pub use product::{COLUMNS, Line, Pairs, ROWS, Wide, multiply, multiply_add, narrow};

/// An instruction set that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Isa);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isa {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 with products of bfloat16 numbers.
    #[cfg(target_arch = "x86_64")]
    Bf16,
}

impl Level {
    /// All that this processor has, the best last. There is no other way to make one.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut levels = vec![Self(Isa::Baseline)];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            levels.push(Self(Isa::Avx2));
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                levels.push(Self(Isa::Avx512));
                if is_x86_feature_detected!("avx512bf16") {
                    levels.push(Self(Isa::Bf16));
                }
            }
        }
        levels
    }

    /// The best that this processor has.
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Self(Isa::Baseline))
    }
}

/// Whether the baseline has a fused multiply-add instruction; without one `mul_add` is a slow library call.
const BASELINE_FMA: bool = cfg!(target_arch = "aarch64");

/// Defines a function that runs `$body::<FMA>` compiled for the given [`Level`], or `$bf16` where that is the best.
macro_rules! dispatch {
    ($(#[$attribute:meta])* $name:ident = $body:ident | $bf16:path, ($($argument:ident: $type:ty),* $(,)?)) => {
        $(#[$attribute])*
        pub fn $name(level: $crate::encoder::kernels::Level, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            if level.0 == $crate::encoder::kernels::Isa::Bf16 {
                // SAFETY: a `Level` is only made after the processor was asked for these features.
                return unsafe { $bf16($($argument),*) };
            }
            dispatch! { portable = $body($($argument: $type),*) }
            portable(level, $($argument),*);
        }
    };
    ($(#[$attribute:meta])* $name:ident = $body:ident($($argument:ident: $type:ty),* $(,)?)) => {
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments)]
        pub fn $name(level: $crate::encoder::kernels::Level, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($argument: $type),*) {
                    $body::<true>($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($argument: $type),*) {
                    $body::<true>($($argument),*)
                }
                match level.0 {
                    $crate::encoder::kernels::Isa::Avx512 | $crate::encoder::kernels::Isa::Bf16 => {
                        // SAFETY: a `Level` is only made after the processor was asked for these features.
                        return unsafe { avx512($($argument),*) };
                    }
                    // SAFETY: as above.
                    $crate::encoder::kernels::Isa::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::encoder::kernels::Isa::Baseline => {}
                }
            }
            let _ = level;
            $body::<{ $crate::encoder::kernels::BASELINE_FMA }>($($argument),*)
        }
    };
}
use dispatch;

/// `a * b + c`, fused where that is one instruction.
#[inline(always)]
fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}
