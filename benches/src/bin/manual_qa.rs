//! How well the demo answers: 37 questions about the PostgreSQL manual, 7 of which it does not answer.
//!
//! Asks the demo's database (`make demo` prints where it is) and prints, in Markdown, how often the right page is
//! found, how often an answer is right and cites the right page, and what each `min_score` would refuse.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use pg_answer_tests::fixtures;
use postgres::{Client, Config, NoTls};
use serde::Deserialize;

/// Measures answers from the PostgreSQL manual.
#[derive(Parser)]
struct Arguments {
    /// Folder of the demo cluster's socket.
    #[arg(long)]
    host: PathBuf,
    /// Role to connect as.
    #[arg(long, default_value = "postgres")]
    user: String,
    /// Rows that an answer is made of.
    #[arg(long, default_value_t = 5)]
    k: i32,
    /// Measure retrieval only.
    #[arg(long)]
    no_answers: bool,
    /// Show every answer.
    #[arg(long)]
    verbose: bool,
}

#[derive(Deserialize)]
struct Question {
    id: String,
    question: String,
    page: Option<String>,
    must_contain_any: Vec<String>,
    also_accept: Vec<String>,
}

/// What came of a question.
struct Outcome {
    /// Pages of the retrieved rows, best first.
    pages: Vec<String>,
    /// Score of the best.
    score: f64,
    answer: String,
}

impl Question {
    fn is_right(&self, answer: &str) -> bool {
        let answer = answer.to_lowercase();
        self.must_contain_any.iter().chain(&self.also_accept).any(|wanted| stands_in(wanted, &answer))
    }

    fn finds_page(&self, outcome: &Outcome, top: usize) -> bool {
        outcome.pages.iter().take(top).any(|page| Some(page) == self.page.as_ref())
    }

    /// Whether some citation of the answer is one of the right page.
    fn cites_page(&self, outcome: &Outcome) -> bool {
        let numbers =
            outcome.answer.split(['[', ']', ',']).filter_map(|part| part.trim().parse::<usize>().ok());
        numbers
            .filter_map(|number| outcome.pages.get(number.checked_sub(1)?))
            .any(|page| Some(page) == self.page.as_ref())
    }
}

/// Whether `wanted` stands in `text`, and not within a longer number.
fn stands_in(wanted: &str, text: &str) -> bool {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    text.match_indices(wanted).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + wanted.len()..].chars().next());
        !(digit(wanted.chars().next()) && digit(before) || digit(wanted.chars().next_back()) && digit(after))
    })
}

fn ask(client: &mut Client, question: &str, arguments: &Arguments) -> Result<Outcome> {
    let rows = client.query(
        "SELECT m.page, r.score FROM rag_retrieve($1, 'manual', $2) r
             JOIN manual m ON m.id = (r.key ->> 'id')::bigint ORDER BY r.score DESC",
        &[&question, &arguments.k],
    )?;
    let answer = if arguments.no_answers {
        String::new()
    } else {
        client
            .query_one("SELECT rag_answer($1, 'manual', $2, min_score => -1)", &[&question, &arguments.k])?
            .get(0)
    };
    Ok(Outcome {
        pages: rows.iter().map(|row| row.get(0)).collect(),
        score: rows.first().map_or(f64::NEG_INFINITY, |row| row.get(1)),
        answer,
    })
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut client = Config::new()
        .host_path(&arguments.host)
        .user(&arguments.user)
        .dbname("manual")
        .connect(NoTls)
        .context("the demo does not run: make demo")?;
    let questions: Vec<Question> = fixtures::json_lines("manual_qa/questions.jsonl")?;
    let mut asked = Vec::new();
    for question in &questions {
        let outcome = ask(&mut client, &question.question, &arguments)?;
        if arguments.verbose {
            let verdict = match &question.page {
                None => "no answer in the manual",
                Some(_) if question.is_right(&outcome.answer) => "right",
                Some(_) => "wrong",
            };
            println!(
                "{} {:.3} {verdict}: {}\n    {}\n    {} | {}",
                question.id,
                outcome.score,
                question.question,
                outcome.answer.replace('\n', "\n    "),
                question.page.as_deref().unwrap_or("-"),
                outcome.pages.join(" ")
            );
        }
        asked.push((question, outcome));
    }
    report(&asked, arguments.no_answers);
    Ok(())
}

fn report(asked: &[(&Question, Outcome)], no_answers: bool) {
    let refused = |o: &Outcome| o.answer.starts_with("I cannot answer");
    let (answerable, unanswerable): (Vec<_>, Vec<_>) = asked.iter().partition(|(q, _)| q.page.is_some());
    let line = |what: &str, all: &[&(&Question, Outcome)], holds: &dyn Fn(&Question, &Outcome) -> bool| {
        println!("| {what} | {} of {} |", all.iter().filter(|(q, o)| holds(q, o)).count(), all.len());
    };
    println!("| | |\n| --- | --- |");
    for top in [1, 3, 5] {
        line(&format!("right page among the best {top}"), &answerable, &|q, o| q.finds_page(o, top));
    }
    if !no_answers {
        line("right answer", &answerable, &|q, o| q.is_right(&o.answer));
        line("cites some passage", &answerable, &|_, o| o.answer.contains('['));
        line("cites the right page", &answerable, &|q, o| q.cites_page(o));
        line("wrongly refused by the model", &answerable, &|_, o| refused(o));
        line("unanswerable refused by the model", &unanswerable, &|_, o| refused(o));
    }
    println!("\n| min_score | answerable refused | unanswerable refused |\n| --- | --- | --- |");
    for hundredths in (20..=70).step_by(5) {
        let min_score = f64::from(hundredths) / 100.0;
        let below = |all: &[&(&Question, Outcome)]| all.iter().filter(|(_, o)| o.score < min_score).count();
        println!(
            "| {min_score:.2} | {} of {} | {} of {} |",
            below(&answerable),
            answerable.len(),
            below(&unanswerable),
            unanswerable.len()
        );
    }
}
