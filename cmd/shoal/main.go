// Command shoal gets large files onto many machines at once. Each subcommand is a file of this package; what they
// share is here: flags that all have, signals, and the way an error becomes text and an exit status (errors.go).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// env is the world as a command sees it: its streams, and what the flags that all commands have say.
type env struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	screen *screen // talks on stderr

	json    bool
	quiet   bool
	verbose bool
	server  string
	state   string
	swarm   string
	noLAN   bool
	alone   bool // no running peer is asked
}

// signalError is the end that a signal makes of a command.
type signalError struct{ signal syscall.Signal }

func (e *signalError) Error() string { return "stopped by " + e.signal.String() }

// stopError is an error that came of a signal.
type stopError struct {
	*signalError
	err error
}

func (e *stopError) Unwrap() []error { return []error{e.signalError, e.err} }

func main() {
	e := &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	ctx, stop := withSignals(context.Background(), func() {
		if isTerminal(e.stderr) { // it has echoed ^C: bars are drawn from the first column
			fmt.Fprint(e.stderr, "\r")
		}
	})
	defer stop()
	code := run(ctx, e, os.Args[1:])
	stop()
	os.Exit(code)
}

// run runs one command line and returns the exit status.
func run(ctx context.Context, e *env, args []string) int {
	e.screen = newScreen(e.stderr)
	root := newRoot(e)
	root.SetArgs(args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	err := root.ExecuteContext(ctx)
	e.screen.close()
	if err == nil {
		return 0
	}
	var stopped *signalError
	if errors.Is(err, context.Canceled) && errors.As(context.Cause(ctx), &stopped) {
		err = &stopError{stopped, err}
	} else if ctx.Err() == nil {
		err = closer(ctx, e, err)
	}
	return report(e, err)
}

// withSignals returns a context that the first SIGINT or SIGTERM ends, after notice is called; the second ends the process
// at once.
func withSignals(parent context.Context, notice func()) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	got := make(chan os.Signal, 2)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() { // ends with stop
		for first := true; ; first = false {
			select {
			case s := <-got:
				if !first {
					os.Exit(exitOfSignal(s.(syscall.Signal)))
				}
				notice()
				cancel(&signalError{s.(syscall.Signal)})
			case <-done:
				return
			}
		}
	}()
	stopped := false
	return ctx, func() {
		if !stopped {
			stopped = true
			signal.Stop(got)
			close(done)
			cancel(nil)
		}
	}
}

func exitOfSignal(s syscall.Signal) int { return 128 + int(s) }

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "shoal",
		Short: "Get large files onto many machines at once",
		Long: `Shoal gets large files (disk images, model weights, datasets, builds) onto many machines at once.
Every machine that has a file, or is getting it, gives it to the others. What moves is encrypted, for the members of a swarm
only, and every piece is verified.

--classic speaks the protocol of the original C++ program instead, which is unencrypted and cannot verify what it moves.`,
		Example: `  shoal demo               see a whole swarm work on this machine
  shoal share big.img      share a file, and start a swarm if this machine is in none
  shoal get LINK           on the others: the line that share has printed
  shoal get big.img        once they are in the swarm, the name is enough`,
		SilenceErrors: true,
		SilenceUsage:  true,

		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return flagsFromEnvironment(cmd.Flags(), os.LookupEnv)
		},
	}
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(newHelp(e))
	f := root.PersistentFlags()
	f.BoolVar(&e.json, "json", false, "print one JSON object a line on standard output")
	f.BoolVarP(&e.quiet, "quiet", "q", false, "say nothing but results and errors")
	f.BoolVarP(&e.verbose, "verbose", "v", false, "say more: what is asked of whom, and what came of it")
	f.StringVar(&e.server, "server", defaultServer, "the swarm server, HOST[:PORT], instead of the one of the swarm")
	f.StringVar(&e.state, "state", defaultState(), "folder for keys and membership")
	f.StringVar(&e.swarm, "swarm", "", "the swarm that is meant, by the begin of its id, where this machine is in several")
	f.BoolVar(&e.noLAN, "no-lan", false, "do not look for the swarm on the local network when no server answers, and do not be found there")
	f.BoolVar(&e.alone, "alone", false, "do it in this process, though a peer runs on this machine")
	root.AddCommand(
		newServer(e), newShare(e), newGet(e), newLs(e), newPeers(e), newStatus(e), newTop(e),
		newJoin(e), newLink(e), newMembers(e), newID(e), newVerify(e), newPeer(e), newPause(e), newResume(e), newRemove(e), newLimits(e), newWeb(e), newDoctor(e), newDemo(e), newSim(e), newVersion(e), newMan(e),
	)
	addCompletions(e, root)
	return root
}

// knownCommand refuses what is no command, and names the one that may have been meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	f := &failure{Code: "E-USAGE", Exit: exitUsage, What: "there is no command " + quote(args[0]), Next: "shoal --help"}
	var names []string
	for _, c := range cmd.Root().Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if like := near(args[0], names); len(like) > 0 {
		f.Cause, f.Next = "did you mean: "+strings.Join(like, ", "), "shoal "+like[0]+" --help"
	}
	return f
}

// flagError is a flag that cannot be, with those that may have been meant.
func flagError(cmd *cobra.Command, err error) error {
	f := &failure{Code: "E-USAGE", Exit: exitUsage, What: oneLine(err.Error()), Next: cmd.CommandPath() + " --help"}
	if wrong, unknown := strings.CutPrefix(err.Error(), "unknown flag: --"); unknown {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		if like := near(wrong, names); len(like) > 0 {
			f.Cause = "did you mean: --" + strings.Join(like, ", --")
		}
	}
	return f
}

// flagsFromEnvironment gives each flag that the command line does not set the value of SHOAL_ and its name, if there is such.
func flagsFromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "SHOAL_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value, ok := lookup(name); ok && !f.Changed && f.Name != "help" {
			if setErr := flags.Set(f.Name, value); setErr != nil && err == nil {
				err = &usageError{name + ": " + setErr.Error()}
			}
		}
	})
	return err
}

// log returns a logger that writes to the screen what is at least as important as level.
func (e *env) log(level slog.Level) *slog.Logger {
	if e.verbose {
		level = slog.LevelDebug
	}
	if e.quiet {
		level = slog.LevelError
	}
	if e.screen.terminal {
		return slog.New(tint.NewTextHandler(e.screen, &tint.Options{
			Level: level, TimeFormat: "15:04:05", NoColor: !e.screen.colour, ReplaceAttr: withoutDEL,
		}))
	}
	return slog.New(slog.NewTextHandler(e.screen, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutDEL}))
}

// withoutDEL escapes the one control character that the handlers let through.
func withoutDEL(_ []string, a slog.Attr) slog.Attr {
	if kind := a.Value.Kind(); kind == slog.KindString || kind == slog.KindAny {
		if text := a.Value.String(); strings.Contains(text, "\x7f") {
			a.Value = slog.StringValue(strings.ReplaceAll(text, "\x7f", `\x7f`))
		}
	}
	return a
}

// isTerminal says whether a stream is somebody's terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}
