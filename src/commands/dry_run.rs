//! `--dry-run`: the requests as they would go out, one after the other, if all posts were due at once. Connects to the
//! source only.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{post::Plan, sending};
use crate::{
    failure::{Exit, Failure},
    pipeline::{Batch, sizes},
    post::{Kind, Post},
    sink::{Entry, Sink},
    telemetry::print_result,
};

/// Posts that are shown unless `-n` says otherwise.
const POSTS: u64 = 3;

pub(super) async fn run(plan: &Plan, stop: &CancellationToken) -> Result<Exit, Failure> {
    let invoke_url = plan.args.target.invoke_url.as_ref();
    let base = invoke_url.map_or_else(|| "INVOKE-URL".to_owned(), ToString::to_string);
    let headers = sending::headers(&plan.args.target, invoke_url)?;
    let headers: String = headers
        .iter()
        .flat_map(|header| [header.name(), ": ***\n"])
        .collect();
    let count = plan.count().unwrap_or(POSTS);
    let read = plan.database.clone().read(plan.source_options(Some(count)));
    let Some(posts) = stop.run_until_cancelled(read).await else {
        return Ok(Exit::Success);
    };
    let mut posts = posts?;
    let mut batch = Batch::new(sending::batch_limits(&plan.args.sending, &plan.sink));
    let show = |(posts, _): (Vec<Post>, usize)| show(&plan.sink, &base, &headers, &posts);
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    let mut shown = false;
    while left > 0
        && let Some(Some(chunk)) = stop.run_until_cancelled(posts.next()).await
    {
        for post in chunk?.into_iter().take(left) {
            let sizes = sizes(&plan.sink, &post);
            if !batch.has_room(&sizes) {
                show(batch.take())?;
            }
            batch.push(post, &sizes, Duration::ZERO);
            left -= 1;
            shown = true;
        }
    }
    if shown {
        show(batch.take())?;
    }
    let oddities = posts.oddities();
    plan.warn_of(&oddities);
    if shown || count == 0 || stop.is_cancelled() {
        Ok(Exit::Success)
    } else {
        Err(plan.no_rows(&oddities))
    }
}

fn show(sink: &Sink, base: &str, headers: &str, batch: &[Post]) -> Result<(), Failure> {
    for kind in Kind::ALL {
        let entries: Vec<Entry<'_>> = batch
            .iter()
            .filter_map(|post| Entry::of(post, kind))
            .collect();
        let request = sink.request(kind, &entries);
        let text = format!(
            "{} {base}{}\nContent-Type: {}\nAccept: {}\n{headers}\n{}\n\n",
            request.method.as_str(),
            request.path,
            request.content_type,
            request.accept,
            String::from_utf8_lossy(&request.body)
        );
        print_result("the requests", &text)?;
    }
    Ok(())
}
