//! The `cortado` command.

fn main() -> std::process::ExitCode {
    cortado::cli::main()
}
