//! `--print-config`: the settings of a run and where each came from.

use super::post;
use crate::{
    cli::{BatchArgs, Checked, Command, PostArgs, StreamArgs},
    config::Invocation,
};

/// The settings, if the command line asks for them in place of what it would do.
pub(crate) fn asked_for(Invocation { cli, origin }: &Invocation) -> Option<String> {
    let (command, prefix, args) = match &cli.command {
        Command::Batch(args) => batch(args),
        Command::Stream(args) => stream(args),
        Command::Check { of } => match of {
            Checked::Batch(args) => batch(&args.run),
            Checked::Stream(args) => stream(&args.run),
        },
        _ => return None,
    };
    // Without a prefix, or a home, there is none yet.
    let state_dir = || post::state_dir(command, &prefix?, args).ok();
    args.print_config
        .then(|| origin.describe(command, state_dir().as_deref()))
}

/// What decides the settings of a run: the command, the prefix if there is one, the other options.
type Run<'a> = (&'static str, Option<String>, &'a PostArgs);

fn batch(args: &BatchArgs) -> Run<'_> {
    let prefix = args.topic_prefix.as_ref().map(ToString::to_string);
    let prefix = post::needed(prefix, &args.post, "--topic-prefix").ok();
    ("batch", prefix, &args.post)
}

fn stream(args: &StreamArgs) -> Run<'_> {
    let prefix = args.stream_prefix.as_ref().map(ToString::to_string);
    let prefix = post::needed(prefix, &args.post, "--stream-prefix").ok();
    ("stream", prefix, &args.post)
}
