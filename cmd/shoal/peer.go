package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"shoal/internal/classic"
	"shoal/internal/node"

	"github.com/spf13/cobra"
)

// defaultWeb is where the page and the API are.
const defaultWeb = "127.0.0.1:50080"

type peerOptions struct {
	classic, interactive bool

	config, listen, serverListen string
	webFlags
	folders []string
}

func newPeer(e *env) *cobra.Command {
	var o peerOptions
	cmd := &cobra.Command{
		Use:   "peer",
		Short: "Run the long-running peer: shares and downloads that survive restarts",
		Long: `Run the long-running peer, in the foreground. What it shares and fetches goes on when it is started again; share, get, ls, status,
pause, resume and remove talk to it while it runs. It has an HTTP API, of which shoal web prints a link, shares what lies in watched
folders, and is the swarm's server if this machine started the swarm. SIGTERM ends it in order, SIGHUP has it read its configuration
again; systemd is told how it is. See deploy/ for units.

With --classic --interactive it takes part in a classic swarm as the original program does, and keeps nothing. It asks on standard
input, in this order: the address and the port to listen on, the paths of files to share, one a line, until an empty line, the name of
a file to download (empty: none), and then the folder to save it in. It shares until Enter. It ends by itself if it shares nothing and
is alone.`,
		Example: `  shoal peer
  shoal peer --folder /srv/images
  shoal peer --classic --interactive
  printf '127.0.0.1\n6101\n/srv/a.img\n\n\n' | shoal peer --classic --interactive`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !o.interactive && !o.classic {
				return runPeer(cmd.Context(), e, o, cmd.Flags().Changed)
			}
			if err := wantClassic(o.classic); err != nil {
				return err
			}
			if !o.interactive {
				return &usageError{"the long-running peer does not speak the classic protocol: add --interactive, or use shoal share --classic"}
			}
			return runInteractive(cmd.Context(), e)
		},
	}
	addClassic(cmd, &o.classic)
	f := cmd.Flags()
	f.BoolVar(&o.interactive, "interactive", false, "ask on standard input, as the original program does")
	f.StringVar(&o.config, "config", defaultConfig(), "configuration file (TOML)")
	f.StringVar(&o.listen, "listen", "", fmt.Sprintf("where to serve other peers, ADDR:PORT (default: every interface, port %d, or any if that is taken)", node.DefaultPort))
	o.webFlags.add(f, defaultWeb, "where page and HTTP API are, ADDR:PORT; beyond the loopback they are encrypted; empty: nowhere")
	f.StringVar(&o.serverListen, "server-listen", ":50001", "where the swarm server listens, if this machine started the swarm; empty: nowhere")
	f.StringArrayVar(&o.folders, "folder", nil, "share what lies in this folder, as it appears (may be given several times)")
	return cmd
}

// answers is what the original's questions are answered.
type answers struct {
	listen netip.AddrPort
	files  []string
	name   string // to download; empty: none
	dir    string // where to
}

// dialogue asks questions on the error stream, and takes the answers from standard input, a line each.
type dialogue struct {
	e     *env
	lines <-chan string // closed at the end of the input
}

// newDialogue begins to read lines. The goroutine that reads ends with the input: a read of a terminal cannot be
// interrupted, and the process may end before it.
func newDialogue(ctx context.Context, e *env) *dialogue {
	lines := make(chan string)
	go func() {
		defer close(lines)
		in := bufio.NewReader(io.LimitReader(e.stdin, 1<<20))
		for {
			line, err := in.ReadString('\n')
			if line != "" {
				select {
				case lines <- strings.TrimRight(line, "\r\n"):
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return &dialogue{e, lines}
}

// ask puts a question, and returns the next line; ok is false at the end of the input.
func (d *dialogue) ask(ctx context.Context, question string) (line string, ok bool, err error) {
	if !d.e.quiet {
		d.e.screen.printf("%s\n", question)
	}
	select {
	case line, ok = <-d.lines:
		return line, ok, nil
	case <-ctx.Done():
		return "", false, ctx.Err()
	}
}

// until repeats a question until its answer is accepted.
func (d *dialogue) until(ctx context.Context, question string, accept func(string) error) error {
	for {
		line, ok, err := d.ask(ctx, question)
		if err != nil {
			return err
		}
		if !ok {
			return &usageError{"standard input ended where an answer was due: " + question}
		}
		if err := accept(strings.TrimSpace(line)); err == nil {
			return nil
		} else {
			d.e.screen.printf("%s\n", oneLine(err.Error()))
		}
	}
}

// interview asks the original's questions in the original's order. Files are shared as they are named, so that a wrong
// path can be mended at once.
func (d *dialogue) interview(ctx context.Context, share func(path string) error) (a answers, err error) {
	var addr netip.Addr
	err = d.until(ctx, "Address to listen on:", func(s string) (err error) {
		if addr, err = netip.ParseAddr(s); err == nil {
			err = node.CheckAdvertise(addr)
		}
		return err
	})
	if err != nil {
		return a, err
	}
	err = d.until(ctx, "Port to listen on (1024-65535):", func(s string) error {
		port, err := strconv.ParseUint(s, 10, 16)
		if err != nil || port < 1024 {
			return fmt.Errorf("%q is not a port from 1024 to 65535", s)
		}
		a.listen = netip.AddrPortFrom(addr, uint16(port))
		return nil
	})
	if err != nil {
		return a, err
	}
	for {
		line, ok, err := d.ask(ctx, "File to share (empty: no more):")
		if err != nil {
			return a, err
		}
		if !ok || strings.TrimSpace(line) == "" {
			break
		}
		if err := share(line); err != nil {
			d.e.screen.printf("%s\n", oneLine(err.Error()))
			continue
		}
		a.files = append(a.files, line)
	}
	if a.name, _, err = d.ask(ctx, "File to download (empty: none):"); err != nil || a.name == "" {
		return a, err
	}
	a.dir, _, err = d.ask(ctx, "Folder to save it in:")
	if a.dir == "" {
		a.dir = "."
	}
	return a, err
}

func runInteractive(ctx context.Context, e *env) error {
	server, err := hostPort(e.server, classic.DefaultPort)
	if err != nil {
		return &usageError{"--server: " + err.Error()}
	}
	d := newDialogue(ctx, e)
	// The library is filled before it is known where the node listens: the node is made anew with what was answered.
	library := node.New(node.Config{})
	defer library.Close()
	a, err := d.interview(ctx, func(path string) error { _, err := library.Share(path, ""); return err })
	if err != nil {
		return err
	}
	n := node.New(node.Config{
		Server: server, Listen: a.listen.String(), Advertise: a.listen.Addr(), Log: e.log(slog.LevelWarn),
		Changed: func(name string, err error) {
			e.screen.printf("warning: %s is not served any more: %s\n", quote(name), oneLine(err.Error()))
		},
	})
	defer n.Close()
	for _, path := range a.files {
		if _, err := n.Share(path, ""); err != nil {
			return err
		}
	}
	return n.Run(ctx, func(ctx context.Context) error { return d.takePart(ctx, n, a) })
}

// takePart downloads what was asked for, and then shares until Enter or the end of the input.
func (d *dialogue) takePart(ctx context.Context, n *node.Node, a answers) error {
	if a.name != "" {
		if err := d.download(ctx, n, a); err != nil {
			return err
		}
	}
	n.Settled(ctx, time.Second)
	if len(n.Shares()) == 0 && len(n.Members()) == 0 {
		d.e.screen.printf("Nothing is shared, and nobody else is in the swarm: that is all.\n")
		return nil
	}
	_, _, err := d.ask(ctx, "Sharing. Enter ends it.")
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// download fetches a file and shares it. That a name is not there is said, and no reason to end.
func (d *dialogue) download(ctx context.Context, n *node.Node, a answers) error {
	dl := n.NewDownload(node.Request{Name: a.name, Dir: a.dir})
	err := fetch(ctx, d.e, dl, a.name, time.Now())
	var missing *node.NotFoundError
	if errors.As(err, &missing) && len(n.Shares()) > 0 {
		report(d.e, err)
		return nil
	}
	if err != nil {
		return noFolder(err, a.dir)
	}
	_, err = n.Share(filepath.Join(a.dir, a.name), a.name)
	return err
}
