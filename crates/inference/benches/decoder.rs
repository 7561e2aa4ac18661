//! Tokens per second of the real model: reading a prompt of 512, and writing. Needs the store that
//! `PG_ANSWER_MODEL_PATH` names.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pg_answer_inference::Pool;
use pg_answer_inference::decoder::{Decoder, GenerateOptions, Prompt};
use pg_answer_models::Store;

const MODEL: &str = "qwen2.5-coder-0.5b-instruct";
const WRITTEN: usize = 32;

fn decoder(c: &mut Criterion) {
    let root = std::env::var("PG_ANSWER_MODEL_PATH")
        .expect("set PG_ANSWER_MODEL_PATH to the folder of installed models");
    let model = Store::new(root).open(MODEL).unwrap_or_else(|e| panic!("{e}"));
    let pool = Pool::new(2).expect("threads");
    let mut group = c.benchmark_group("decoder");
    group.sample_size(10);
    group.bench_function("load", |b| b.iter(|| Decoder::load(&model, &pool, &mut || Ok(())).expect("load")));
    let mut decoder = Decoder::load(&model, &pool, &mut || Ok(())).expect("load");
    let ids: Vec<u32> = (0..512).map(|i| 1000 + i * 7).collect();
    group.throughput(Throughput::Elements(512));
    group.bench_function("prefill 512", |b| {
        b.iter(|| decoder.prefill(&ids, &pool, &mut || Ok(())).expect("prefill"));
    });
    let options =
        GenerateOptions { max_tokens: WRITTEN + 1, temperature: 0.0, top_p: 1.0, seed: 0, stop: Vec::new() };
    let prompt = Prompt { text: String::new(), ids: ids[..2].to_vec() };
    group.throughput(Throughput::Elements(WRITTEN as u64));
    // The prompt's two tokens and the choice of the first one are part of the time.
    group.bench_function("write 32", |b| {
        b.iter(|| {
            let answer = decoder
                .generate(&prompt, &options, &pool, &mut || Ok(()), &mut |_| Ok(()))
                .expect("generate");
            assert_eq!(answer.ids.len(), WRITTEN + 1);
        });
    });
    group.finish();
}

criterion_group!(benches, decoder);
criterion_main!(benches);
