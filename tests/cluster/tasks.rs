//! Summaries, translations, matching and filters.

use anyhow::{Result, ensure};

use crate::{FACTS, docs, error_of, expect_code, one, session};

#[test]
fn long_texts_are_summarised_by_pieces() -> Result<()> {
    let (_, mut client) = session("summarize")?;
    let short: String = one(
        &mut client,
        "SELECT summarize('The ferry to Sandholm leaves at 6:40 in the morning, except on Sundays. It takes forty minutes. The
            harbour master sells the tickets.', max_tokens => 60)",
    )?;
    println!("{short}");
    ensure!(short.contains("ferry") && short.len() < 300, "{short}");
    // Far more than context_tokens: pieces are summarised, then the summaries.
    let long = "SELECT summarize((SELECT string_agg('On day ' || i || ' the ferry to Sandholm carried ' || i * 3 || ' people.', ' ')
        FROM generate_series(1, 30) AS i), max_tokens => 40, context_tokens => 160)";
    let long: String = one(&mut client, long)?;
    println!("{long}");
    ensure!(!long.is_empty() && long.len() < 600, "{long}");
    let group = "SELECT summarize_agg(t ORDER BY t DESC) FROM (VALUES ('Doctor Falter discovered the blue beetle.'), (NULL),
        ('In 1987 she won a prize for it.')) AS v(t)";
    let group: String = one(&mut client, group)?;
    ensure!(group.contains("Falter") || group.contains("beetle"), "{group}");
    let none = "SELECT summarize(NULL) IS NULL AND summarize('') = '' AND summarize(' ') = '' AND translate(NULL, 'German') IS NULL
        AND rewrite('x', NULL) IS NULL AND (SELECT summarize_agg(t) FROM (SELECT NULL::text AS t WHERE false) AS e) IS NULL";
    ensure!(one::<bool>(&mut client, none)?);
    expect_code(&error_of(&mut client, "SELECT summarize('x', max_tokens => 0)")?, "22023")?;
    expect_code(&error_of(&mut client, "SELECT summarize('x', context_tokens => 5)")?, "54000")?;
    Ok(())
}

#[test]
fn texts_are_translated_and_rewritten() -> Result<()> {
    let (_, mut client) = session("translate")?;
    let german: String = one(&mut client, "SELECT translate('Good morning, my friend.', 'German')")?;
    println!("{german}");
    ensure!(german.contains("Freund"), "{german}");
    // Line breaks between the pieces of a long text stay.
    let pieces: String = one(&mut client, "SELECT translate(repeat('The sea is calm today.', 6) || E'\\n\\n' || repeat('The sea is calm today.', 6),
        'French', context_tokens => 48)")?;
    ensure!(pieces.contains("\n\n"), "{pieces}");
    // PostgreSQL's own translate is still there.
    ensure!(one::<String>(&mut client, "SELECT translate('12345', '143', 'ax')")? == "a2x5");
    let past = "SELECT rewrite('The keeper climbs up the tower. He lights the lamp.', 'in the past tense')";
    let past: String = one(&mut client, past)?;
    println!("{past}");
    ensure!(past.contains("climbed") && past.contains("lit"), "{past}");
    expect_code(&error_of(&mut client, "SELECT translate('x', ' ')")?, "22023")?;
    Ok(())
}

#[test]
fn candidates_come_with_verdicts_and_reasons() -> Result<()> {
    let (_, mut client) = session("matching")?;
    docs(&mut client)?;
    let rows = client.query(
        "SELECT key, candidate, similarity, verdict, probability, reason
        FROM match_candidates('quartz sand of the Ottel quarry', 'docs', k => 3)",
        &[],
    )?;
    ensure!(rows.len() == 3, "{} rows", rows.len());
    let probabilities: Vec<f64> = rows.iter().map(|row| row.get(4)).collect();
    ensure!(
        probabilities.windows(2).all(|p| p[0] >= p[1])
            && probabilities.iter().all(|p| (0.0..=1.0).contains(p))
    );
    for row in &rows {
        let (verdict, reason): (Option<bool>, Option<String>) = (row.get(3), row.get(5));
        println!("{verdict:?} {reason:?}");
        ensure!(FACTS.contains(&row.get::<_, &str>(1)) && reason.is_some() == verdict.is_some());
        let begin = if verdict == Some(true) { "match: " } else { "no match: " };
        ensure!(reason.is_none_or(|reason| reason.starts_with(begin) && reason.len() > begin.len()));
    }
    let chinese: Option<String> =
        one(&mut client, "SELECT reason FROM semantic_match('石英砂', '燃气锅炉供热')")?;
    ensure!(chinese.as_ref().is_none_or(|reason| reason.contains("匹配：")), "{chinese:?}");
    let quiet =
        "SELECT reason IS NULL AND similarity > 0.99 FROM semantic_match('urea', 'urea', reasons => false)";
    ensure!(one::<bool>(&mut client, quiet)?);
    let none = "SELECT verdict IS NULL AND probability IS NULL FROM semantic_match(NULL, 'x')";
    ensure!(one::<bool>(&mut client, none)?);
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM match_candidates(NULL, 'docs')")? == 0);
    Ok(())
}

/// Texts like those that were asked about are answered without asking, and as the model would answer.
#[test]
fn filters_ask_only_in_doubt() -> Result<()> {
    let (_, mut client) = session("filter")?;
    client.batch_execute(
        "CREATE TABLE notes AS SELECT i, CASE WHEN i % 2 = 0 THEN 'Recipe no. ' || i || ': fry the onions in butter, add salt and serve hot.'
             ELSE 'Match report no. ' || i || ': the home team won the football game by two goals.' END AS body
         FROM generate_series(1, 60) AS i;
         CREATE TABLE said AS SELECT i, ai_filter(body, 'The text is about cooking.', doubt => 0) AS meets FROM notes",
    )?;
    ensure!(one::<bool>(&mut client, "SELECT row_count = 60 AND asked = 60 FROM ai_filter_stats()")?);
    client.batch_execute("SELECT ai_filter_reset()")?;
    ensure!(one::<i64>(&mut client, "SELECT count(*) FROM ai_filter_stats()")? == 0);
    let other = "SELECT count(*) FROM notes JOIN said USING (i) WHERE ai_filter(body, 'The text is about cooking.') <> meets";
    let other: i64 = one(&mut client, other)?;
    let asked: i64 = one(&mut client, "SELECT asked FROM ai_filter_stats() WHERE row_count = 60")?;
    println!("{other} answered otherwise, {asked} of 60 asked");
    ensure!(other <= 6, "{other} answered otherwise");
    ensure!((10..=60).contains(&asked), "{asked} asked");
    ensure!(one::<bool>(
        &mut client,
        "SELECT ai_filter(NULL, 'x') IS NULL AND ai_filter('x', NULL) IS NULL"
    )?);
    expect_code(&error_of(&mut client, "SELECT ai_filter('x', 'y', doubt => 0.5)")?, "22023")?;
    Ok(())
}
