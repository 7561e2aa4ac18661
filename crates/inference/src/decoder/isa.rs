//! Which vector instructions this processor has, found at run time.

/// A set of vector instructions that this processor has: values come only from [`Isa::best`] and
/// [`Isa::available`], so holding one proves that code for it may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa {
    kind: Kind,
    /// AVX-512 BF16 as well.
    bf16: bool,
}

/// The sets that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What the compiler's target has.
    Baseline,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON with the dot product instructions.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl Isa {
    /// All that this processor has, the slowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut all = vec![Self { kind: Kind::Baseline, bf16: false }];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 {
                all.push(Self { kind: Kind::Avx2, bf16: false });
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                all.push(Self { kind: Kind::Avx512, bf16: false });
                if is_x86_feature_detected!("avx512bf16") {
                    all.push(Self { kind: Kind::Avx512, bf16: true });
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            all.push(Self { kind: Kind::NeonDot, bf16: false });
        }
        all
    }

    /// The fastest that this processor has.
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Self { kind: Kind::Baseline, bf16: false })
    }

    /// Which set it is.
    pub fn kind(self) -> Kind {
        self.kind
    }

    /// Whether it has products of bfloat16 numbers.
    #[cfg(target_arch = "x86_64")]
    pub fn bf16(self) -> bool {
        self.bf16
    }
}

/// Defines `fn name(isa, ...)` that runs the generic function `body::<FMA>(...)` compiled for `isa`.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::decoder::isa::Isa, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $type),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                match isa.kind() {
                    // SAFETY: an `Isa` of this kind exists only where the processor has these instructions.
                    $crate::decoder::isa::Kind::Avx512 => unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::decoder::isa::Kind::Avx2 => unsafe { avx2($($arg),*) },
                    $crate::decoder::isa::Kind::Baseline => $body::<false>($($arg),*),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                let _ = isa;
                // Fused multiply-add belongs to the baseline of AArch64.
                $body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
            }
        }
    };
}
pub(crate) use dispatch;
