//! A writer of GGUF files, for tests that make their own.

use half::{bf16, f16};

/// A value of a file's metadata.
pub enum Meta {
    Text(&'static str),
    Number(u32),
    Float(f32),
    Flag(bool),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Numbers(Vec<u32>),
}

/// How a tensor is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum Type {
    F32,
    F16,
    BF16,
    Q4_0,
    Q8_0,
}

/// A tensor: its name, dimensions (the fastest first), type, and values.
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub kind: Type,
    pub values: Vec<f32>,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn list<T>(out: &mut Vec<u8>, kind: u32, items: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    out.extend(9_u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((items.len() as u64).to_le_bytes());
    items.iter().for_each(|item| put(out, item));
}

/// The bytes of a file of version 3.
pub fn write(metadata: &[(&str, Meta)], tensors: &[Tensor]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(&mut out, key);
        let mut plain = |kind: u32, bytes: &[u8]| {
            out.extend(kind.to_le_bytes());
            out.extend(bytes);
        };
        match value {
            Meta::Number(n) => plain(4, &n.to_le_bytes()),
            Meta::Float(x) => plain(6, &x.to_le_bytes()),
            Meta::Flag(flag) => plain(7, &[u8::from(*flag)]),
            Meta::Text(value) => {
                out.extend(8_u32.to_le_bytes());
                text(&mut out, value);
            }
            Meta::Texts(items) => list(&mut out, 8, items, |out, item| text(out, item)),
            Meta::Floats(items) => list(&mut out, 6, items, |out, item| out.extend(item.to_le_bytes())),
            Meta::Numbers(items) => list(&mut out, 4, items, |out, item| out.extend(item.to_le_bytes())),
        }
    }
    let blocks: Vec<Vec<u8>> = tensors.iter().map(|t| encode(t.kind, &t.values)).collect();
    let mut offset = 0_u64;
    for (tensor, block) in tensors.iter().zip(&blocks) {
        text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().for_each(|&n| out.extend((n as u64).to_le_bytes()));
        let kind: u32 = match tensor.kind {
            Type::F32 => 0,
            Type::F16 => 1,
            Type::Q4_0 => 2,
            Type::Q8_0 => 8,
            Type::BF16 => 30,
        };
        out.extend(kind.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += (block.len() as u64).next_multiple_of(32);
    }
    for block in blocks {
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(block);
    }
    out
}

fn encode(kind: Type, values: &[f32]) -> Vec<u8> {
    match kind {
        Type::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Type::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        Type::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        Type::Q8_0 => values.chunks(32).flat_map(q8_0).collect(),
        Type::Q4_0 => values.chunks(32).flat_map(q4_0).collect(),
    }
}

fn q8_0(block: &[f32]) -> Vec<u8> {
    let largest = block.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let code = |x: &f32| (x / scale.to_f32().max(1e-12)).round().clamp(-127.0, 127.0) as i8 as u8;
    scale.to_le_bytes().into_iter().chain(block.iter().map(code)).collect()
}

fn q4_0(block: &[f32]) -> Vec<u8> {
    let largest = block.iter().fold(0.0_f32, |a, &x| if x.abs() > a.abs() { x } else { a });
    let scale = f16::from_f32(largest / -8.0);
    let inverse = if largest == 0.0 { 0.0 } else { 1.0 / scale.to_f32() };
    let code = |x: f32| (x * inverse + 8.5).clamp(0.0, 15.0) as u8;
    let nibbles = (0..16).map(|i| code(block[i]) | code(block[i + 16]) << 4);
    scale.to_le_bytes().into_iter().chain(nibbles).collect()
}
