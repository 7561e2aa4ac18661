//! How well the demo answers: 37 questions about the PostgreSQL manual, 7 of which it does not answer, and as many others that
//! no rule was chosen by.
//!
//! Asks the demo's database (`make demo` prints where it is) and prints, in Markdown, how often the right page is
//! found, and how often an answer is right, cites the right page, or is refused.

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
    /// Language model; the server's default when absent.
    #[arg(long)]
    model: Option<String>,
    /// Model to judge the passages found anew with for all questions, such as qwen2.5-coder-0.5b-instruct.
    #[arg(long, value_name = "MODEL")]
    rerank: Option<String>,
    /// Ask the questions that no rule was chosen by.
    #[arg(long)]
    held_out: bool,
    /// Give the model only the passage of the right page that holds the answer: what it can do at most.
    #[arg(long, conflicts_with_all = ["rerank", "no_answers"])]
    right_passage: bool,
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
    answer: String,
    refused: bool,
    /// Pages that the answer cites.
    cited: Vec<String>,
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
        outcome.cited.iter().any(|page| Some(page) == self.page.as_ref())
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

/// The answer from the passage of the right page that holds it, of several the one nearest to the question.
fn ask_right_passage(client: &mut Client, question: &Question) -> Result<Outcome> {
    const ANSWER: &str = "SELECT a, a = 'refused' FROM manual AS m, rag_answer($1, ARRAY[m.body], ARRAY[m.title], refusal => 'refused') AS a
                          WHERE m.id = (SELECT id FROM manual WHERE page = $2
                                        ORDER BY EXISTS (SELECT FROM unnest($3::text[]) AS w WHERE strpos(lower(body), w) > 0) DESC,
                                                 embedding <=> embed_query($1, 'all-MiniLM-L6-v2') LIMIT 1)";
    let row = client.query_one(ANSWER, &[&question.question, &question.page, &question.must_contain_any])?;
    let pages = question.page.iter().cloned().collect();
    Ok(Outcome { pages, answer: row.get(0), refused: row.get(1), cited: Vec::new() })
}

fn ask(client: &mut Client, question: &str, arguments: &Arguments) -> Result<Outcome> {
    const PAGES: &str = "SELECT m.page FROM rag_retrieve($1, 'manual', $2, rerank => $3) WITH ORDINALITY r
                         JOIN manual m ON m.id = (r.key ->> 'id')::bigint ORDER BY r.ordinality";
    const ANSWER: &str = "SELECT d.answer, d.refused, p.passages, p.citations FROM rag_answer_details($1, 'manual', $2, rerank => $3) AS d,
                          LATERAL (SELECT ARRAY(SELECT m.page FROM jsonb_array_elements(d.passages) WITH ORDINALITY AS p(p, n)
                                                JOIN manual m ON m.id = (p #>> '{key,id}')::bigint ORDER BY n) AS passages,
                                          ARRAY(SELECT m.page FROM jsonb_array_elements(d.citations) AS c
                                                JOIN manual m ON m.id = (c #>> '{key,id}')::bigint) AS citations) AS p";
    let rerank = arguments.rerank.is_some().then_some(true);
    if arguments.no_answers {
        let pages = client.query(PAGES, &[&question, &arguments.k, &rerank])?;
        let pages = pages.iter().map(|row| row.get(0)).collect();
        return Ok(Outcome { pages, answer: String::new(), refused: false, cited: Vec::new() });
    }
    let row = client.query_one(ANSWER, &[&question, &arguments.k, &rerank])?;
    Ok(Outcome { pages: row.get(2), answer: row.get(0), refused: row.get(1), cited: row.get(3) })
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut client = Config::new()
        .host_path(&arguments.host)
        .user(&arguments.user)
        .dbname("manual")
        .connect(NoTls)
        .context("the demo does not run: make demo")?;
    for (setting, model) in [("generation_model", &arguments.model), ("reranking_model", &arguments.rerank)] {
        if let Some(model) = model {
            client.execute("SELECT set_config('pg_answer.' || $1, $2, false)", &[&setting, model])?;
        }
    }
    let file = if arguments.held_out { "held_out" } else { "questions" };
    let mut questions: Vec<Question> = fixtures::json_lines(&format!("manual_qa/{file}.jsonl"))?;
    if arguments.right_passage {
        questions.retain(|question| question.page.is_some());
    }
    let mut asked = Vec::new();
    for question in &questions {
        let outcome = match arguments.right_passage {
            true => ask_right_passage(&mut client, question)?,
            false => ask(&mut client, &question.question, &arguments)?,
        };
        if arguments.verbose {
            let verdict = match &question.page {
                None => "no answer in the manual",
                Some(_) if question.is_right(&outcome.answer) => "right",
                Some(_) => "wrong",
            };
            println!(
                "{} {verdict}: {}\n    {}\n    {} | {}",
                question.id,
                question.question,
                outcome.answer.replace('\n', "\n    "),
                question.page.as_deref().unwrap_or("-"),
                outcome.pages.join(" ")
            );
        }
        asked.push((question, outcome));
    }
    report(&asked, &arguments);
    Ok(())
}

fn report(asked: &[(&Question, Outcome)], arguments: &Arguments) {
    let (answerable, unanswerable): (Vec<_>, Vec<_>) = asked.iter().partition(|(q, _)| q.page.is_some());
    let line = |what: &str, all: &[&(&Question, Outcome)], holds: &dyn Fn(&Question, &Outcome) -> bool| {
        println!("| {what} | {} of {} |", all.iter().filter(|(q, o)| holds(q, o)).count(), all.len());
    };
    println!("| | |\n| --- | --- |");
    let found = if arguments.right_passage { &[][..] } else { &[1, 3, 5] };
    for top in found {
        line(&format!("right page among the best {top}"), &answerable, &|q, o| q.finds_page(o, *top));
    }
    if arguments.no_answers {
        return;
    }
    line("right answer", &answerable, &|q, o| q.is_right(&o.answer));
    line("wrongly refused", &answerable, &|_, o| o.refused);
    if !arguments.right_passage {
        line("cites the right page", &answerable, &|q, o| q.cites_page(o));
        line("unanswerable refused", &unanswerable, &|_, o| o.refused);
    }
}
