//! Where a model runs and in which number format.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};

use crate::error::LoadError;

/// The device that holds the weights and does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceSpec {
    /// All cores of this machine.
    #[default]
    Cpu,
    /// The CUDA device of this ordinal; needs a build with the `cuda` feature.
    Cuda(usize),
}

impl DeviceSpec {
    /// Whether this build computes there, in that number format; the device itself is not looked for.
    ///
    /// # Errors
    /// [`LoadError::CpuDtype`], [`LoadError::NoCuda`].
    pub fn check(self, dtype: Dtype) -> Result<(), LoadError> {
        match self {
            Self::Cpu if dtype != Dtype::F32 => Err(LoadError::CpuDtype(dtype)),
            Self::Cuda(_) if cfg!(not(feature = "cuda")) => Err(LoadError::NoCuda(self)),
            Self::Cpu | Self::Cuda(_) => Ok(()),
        }
    }

    pub(crate) fn open(self, dtype: Dtype) -> Result<Device, LoadError> {
        self.check(dtype)?;
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(ordinal) => {
                Device::new_cuda(ordinal).map_err(|source| LoadError::OpenDevice {
                    device: self,
                    source,
                })
            }
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = ParseDeviceError;

    /// Reads `cpu`, `cuda` (the first device) or `cuda:N`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseDeviceError(text.to_owned());
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", ordinal)) => ordinal.parse().map(Self::Cuda).map_err(|_| refused()),
            _ => Err(refused()),
        }
    }
}

/// The number format of weights and activations. Latents between the stages are always `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dtype {
    /// 32-bit floats: the reference numerics, and the only format on the CPU.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl From<Dtype> for DType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::BF16,
            Dtype::F16 => Self::F16,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl FromStr for Dtype {
    type Err = ParseDtypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(ParseDtypeError(text.to_owned())),
        }
    }
}

/// A device name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device {0:?} is unknown: use cpu or cuda:N")]
pub struct ParseDeviceError(String);

/// A number format that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("number format {0:?} is unknown: use f32, bf16 or f16")]
pub struct ParseDtypeError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_back_as_they_are_shown() {
        for device in [DeviceSpec::Cpu, DeviceSpec::Cuda(0), DeviceSpec::Cuda(7)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(DeviceSpec::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:0"] {
            assert!(text.parse::<DeviceSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn number_formats_are_read_back_as_they_are_shown() {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        assert!("fp16".parse::<Dtype>().is_err());
    }

    #[test]
    fn the_cpu_refuses_half_precision_in_a_sentence() {
        let refused = DeviceSpec::Cpu.open(Dtype::Bf16).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the CPU computes in f32 only, not in bf16"
        );
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_how_to_make_one() {
        let refused = DeviceSpec::Cuda(0).open(Dtype::F32).unwrap_err();
        assert!(refused.to_string().contains("--features cuda"), "{refused}");
    }
}
