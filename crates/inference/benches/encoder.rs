//! Texts per second of all-MiniLM-L6-v2, from text to vector. The folder of models is PG_ANSWER_MODEL_PATH.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pg_answer_inference::{Encoder, Pool, Role, Tokens};
use pg_answer_models::Store;

const SHORT: &str = "Vacuum reclaims storage occupied by dead tuples.";

fn embed(encoder: &Encoder, pool: &Pool, texts: &[String]) -> Vec<Vec<f32>> {
    let tokens: Vec<Tokens> = texts.iter().map(|t| encoder.tokenize(t, Role::Plain).unwrap()).collect();
    encoder.embed(&tokens, pool, &mut || Ok(())).unwrap()
}

fn encoder(c: &mut Criterion) {
    let root =
        std::env::var_os("PG_ANSWER_MODEL_PATH").expect("set PG_ANSWER_MODEL_PATH to the folder of models");
    let model =
        Store::new(root).open("all-MiniLM-L6-v2").expect("run `pg_answer_model pull all-MiniLM-L6-v2`");
    c.bench_function("load", |b| b.iter(|| Encoder::load(&model).unwrap()));
    let encoder = Encoder::load(&model).unwrap();
    // Twelve tokens and 250 tokens with [CLS] and [SEP].
    let short: Vec<String> = (0..32).map(|_| SHORT.to_owned()).collect();
    let mut passage = String::new();
    while encoder.count_tokens(&passage).unwrap() < 250 {
        passage.push_str("page and index ");
    }
    let passages = vec![passage; 16];
    for threads in [1, 2] {
        let pool = Pool::new(threads).unwrap();
        let mut group = c.benchmark_group(format!("{threads} threads"));
        for (name, texts) in
            [("one short text", &short[..1]), ("32 short texts", &short[..]), ("16 passages", &passages[..])]
        {
            group.throughput(Throughput::Elements(texts.len() as u64));
            group.bench_function(name, |b| b.iter(|| embed(&encoder, &pool, texts)));
        }
    }
}

criterion_group!(benches, encoder);
criterion_main!(benches);
