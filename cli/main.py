"""The `goblin` command. What it needs is imported within, so that Ctrl-C is heard from the first moment on."""


def main() -> None:
    try:
        from cli import stream
        from cli.commands import app
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    stream.mend()
    app()


if __name__ == "__main__":
    main()
