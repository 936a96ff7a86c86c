//! The program: parse, log, then check, print or run.
//!
//! All decisions are in the library; here an error becomes lines on stderr and an exit code
//! (`error.rs`).

use std::io::Write;
use std::process::ExitCode;

use vhost_user_macvtap::cli::typing::NothingToRun;
use vhost_user_macvtap::cli::{Args, Command, typing};
use vhost_user_macvtap::control::{identity, port_mac};
use vhost_user_macvtap::error::Result;
use vhost_user_macvtap::host::guardian::guard_mac;
use vhost_user_macvtap::host::local::LocalHost;
use vhost_user_macvtap::process::logging;
use vhost_user_macvtap::vhost_user::last_holder;
use vhost_user_macvtap::{cli, print};

fn main() -> ExitCode {
    if cli::asks_for_capabilities(std::env::args_os()) {
        return show(print::capabilities_json());
    }
    let args = match typing::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(NothingToRun::Answer(answer)) => answer.exit(),
        Err(NothingToRun::Wrong(error)) => {
            eprintln!("{error}");
            return ExitCode::from(error.exit_code());
        }
    };
    if let Err(error) = start_logging(&args) {
        eprintln!("the log: {error}");
        return ExitCode::FAILURE;
    }
    let code = act(&args).unwrap_or_else(|error| {
        logging::say(&error.to_string());
        ExitCode::from(error.exit_code())
    });
    logging::finish();
    last_holder::take_over();
    code
}

fn act(args: &Args) -> Result<ExitCode> {
    if let Some(Command::GuardMac { ifindex }) = args.command {
        guard_mac(ifindex, args.flags.0.text("mac").unwrap_or_default())?;
        return Ok(ExitCode::SUCCESS);
    }
    let printer = args.command.as_ref().map_or(Ok(None), Command::printer);
    let (config, printer) = both(vhost_user_macvtap::config::resolve(&args.input()), printer)?;
    if args.check {
        identity::check(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(mut printer) = printer {
        printer.ask();
        // The VMM must give the guest the address that the port filters for.
        let macs = port_mac::of_all(&config.ports, &mut LocalHost::open()?)?;
        let text = printer.text(&config.ports, &macs)?;
        let code = show(&text);
        eprint!("{}", printer.note(&config));
        return Ok(code);
    }
    vhost_user_macvtap::run(config)?;
    Ok(ExitCode::SUCCESS)
}

/// Both values, or the errors of both.
fn both<A, B>(a: Result<A>, b: Result<B>) -> Result<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => Err(a.and(b)),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// `print!` panics on a closed pipe (`... | head -1`); a reader that has had enough is no failure.
fn show(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn start_logging(args: &Args) -> std::io::Result<()> {
    let mut builder = env_logger::Builder::new();
    match std::env::var("RUST_LOG") {
        Ok(filters) => builder.parse_filters(&filters),
        Err(_) => builder.filter_level(args.level()),
    };
    logging::start(builder)
}
