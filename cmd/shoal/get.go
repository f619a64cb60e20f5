package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"shoal/internal/node"
	"shoal/internal/store"

	"github.com/spf13/cobra"
	"lukechampine.com/blake3"
)

type getOptions struct {
	peerFlags
	output         string
	from           []string
	overwrite      bool
	restart        bool
	chunkFiles     bool
	sha256, blake3 string
	stay, wait     bool
	once           bool
	linkFile       string
	only, except   []string
	timeout        time.Duration
}

func newGet(e *env) *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use:   "get NAME|ID|LINK",
		Short: "Download a file or directory from all who have it",
		Long: `Download a file or a directory from all who have it, at once. Every piece is verified as it comes. Run the same command again after
any interruption: it goes on where it stopped. The file or directory appears under its name only when it is complete.

A link joins its swarm, if need be, and says which file; in a swarm a name is enough, or an id or its first 8 digits.

From a directory --only and --except choose by patterns: '*.json' fits at any depth, 'a/*.json' and 'a/**/b' from its top, and what fits for a directory
fits for all in it. In a directory that is there already, --overwrite replaces files that differ and adds those that are missing, and leaves others alone.

With -o - the bytes go to standard output in order, verified; those of a directory as a tar archive. They are kept in the temporary folder (TMPDIR)
meanwhile, so that others can be given them, and removed at the end.`,
		Example: `  shoal get shoal://10.0.0.5:50001/...      the line that shoal share prints
  shoal get ubuntu.img -o /srv/images
  shoal get model --only '*.safetensors' --only config.json
  shoal get -q rootfs.tar.zst -o - | zstd -d | tar x
  shoal get --classic --server 10.0.0.5 old.iso --sha256 9f2c...`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.linkFile != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			what := ""
			if len(args) > 0 {
				what = args[0]
			}
			what, err := readLink(e, what, o.linkFile)
			if err != nil {
				return err
			}
			return runGet(cmd.Context(), e, o, what)
		},
	}
	o.add(cmd)
	o.addSite(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", ".", "folder, or path of the file; -: standard output")
	f.StringArrayVar(&o.only, "only", nil, "of a directory, get only what fits this pattern (may be given several times)")
	f.StringArrayVar(&o.except, "except", nil, "of a directory, leave out what fits this pattern (may be given several times)")
	f.StringSliceVar(&o.from, "from", nil, "download only from the holders at ADDR or ADDR:PORT (may be given several times)")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace an existing file, or files in an existing directory, when the new ones are complete")
	f.BoolVar(&o.restart, "restart", false, "throw away what an earlier run has fetched, and begin anew")
	f.BoolVar(&o.chunkFiles, "chunk-files", false, "keep chunks in files <n>.p2p and merge them at the end, as the original program does")
	f.StringVar(&o.sha256, "sha256", "", "SHA-256 that the file must have, in hex")
	f.StringVar(&o.blake3, "blake3", "", "BLAKE3 hash that the file must have, in hex")
	f.BoolVar(&o.stay, "stay", false, "share the file afterwards, until Ctrl-C")
	f.BoolVar(&o.once, "once", false, "end at once when it is complete (otherwise others are given what they lack, at most a minute)")
	addJoinFlags(cmd, &o.linkFile)
	f.BoolVar(&o.wait, "wait", false, "wait until somebody shares the name")
	f.DurationVar(&o.timeout, "timeout", 0, "end when nothing came for so long (default: never)")
	return cmd
}

// request makes of the flags what a download is told.
func (o *getOptions) request(name string) (node.Request, error) {
	if o.output == "-" || len(o.only) > 0 || len(o.except) > 0 {
		return node.Request{}, &usageError{"-o -, --only and --except are not for the classic protocol: its bytes come in no order, and it knows no directories"}
	}
	req := node.Request{
		Name: name, Overwrite: o.overwrite, Restart: o.restart, Wait: o.wait, Patience: o.timeout, Layout: store.OneFile,
	}
	if o.output == "" || o.timeout < 0 {
		return req, &usageError{"--output must not be empty, nor --timeout below 0"}
	}
	if o.chunkFiles {
		req.Layout = store.UnitFiles
	}
	for _, s := range o.from {
		a, port, err := parseAddr(s)
		if err != nil {
			return req, &usageError{"--from: " + err.Error()}
		}
		req.From = append(req.From, netip.AddrPortFrom(a, port))
	}
	for _, d := range []struct {
		name, hex string
		new       func() hash.Hash
	}{
		{"sha256", o.sha256, sha256.New},
		{"blake3", o.blake3, func() hash.Hash { return blake3.New(32, nil) }},
	} {
		if d.hex == "" {
			continue
		}
		want, err := hex.DecodeString(d.hex)
		if err != nil || len(want) != 32 {
			return req, &usageError{fmt.Sprintf("--%s: %s is not 64 hex digits", d.name, quote(d.hex))}
		}
		req.Digests = append(req.Digests, node.Digest{Algorithm: d.name, New: d.new, Want: want})
	}
	req.Dir, req.Target = target(o.output, name)
	return req, nil
}

// target says what -o means: a folder that is there, or is written with a slash at its end, gets the file under its
// own name; anything else is the file's path.
func target(output, name string) (dir, file string) {
	fi, err := os.Stat(output)
	if (err == nil && fi.IsDir()) || strings.HasSuffix(output, string(filepath.Separator)) {
		return output, name
	}
	return filepath.Dir(output), filepath.Base(output)
}

func runGet(ctx context.Context, e *env, o getOptions, name string) error {
	if only, err := e.onlyClassic(o.classic); err != nil {
		return err
	} else if only {
		return getClassic(ctx, e, o, name)
	}
	if c := e.peerHere(ctx); c != nil && !o.ofItsOwn() && !o.stay && len(o.from) == 0 && !o.chunkFiles && o.sha256 == "" && o.output != "-" {
		return handGet(ctx, e, c, o, name)
	}
	return getVerified(ctx, e, o, name)
}

// getClassic downloads a file in a classic swarm alone.
func getClassic(ctx context.Context, e *env, o getOptions, name string) error {
	req, err := o.request(name)
	if err != nil {
		return err
	}
	n, err := o.node(e, slog.LevelWarn, nil)
	if err != nil {
		return err
	}
	defer n.Close()
	req.Note = func(text string, _ error) {
		if e.json {
			printJSON(e.stdout, jsonNote{1, "note", text})
		} else if !e.quiet {
			e.screen.printf("note: %s\n", oneLine(text))
		}
	}
	d := n.NewDownload(req)
	began := time.Now()
	// What is there is looked at first: a file that is complete needs no swarm.
	done, err := d.CheckTarget(ctx)
	if err != nil {
		return noFolder(err, req.Dir)
	}
	already := done != nil
	if already {
		printDone(e, name, done, 0)
		if !o.stay {
			return nil
		}
	}
	return n.Run(ctx, func(ctx context.Context) error {
		if !already {
			if err := fetch(ctx, e, d, name, began); err != nil {
				return keptNote(err, d, name)
			}
		}
		if !o.stay {
			return nil
		}
		if _, err := n.Share(filepath.Join(req.Dir, req.Target), name); err != nil {
			return err
		}
		announceShares(e, n)
		defer e.screen.show(serving(n))()
		<-ctx.Done()
		return nil
	})
}

// fetch runs a download, and shows how it goes.
func fetch(ctx context.Context, e *env, d *node.Download, name string, began time.Time) error {
	watcher := newWatcher(e, d, name)
	watched := make(chan struct{})
	stop := make(chan struct{})
	go func() { defer close(watched); watcher.run(stop) }()
	result, err := d.Run(ctx)
	close(stop)
	<-watched
	if err != nil {
		return err
	}
	printDone(e, name, result, time.Since(began))
	return nil
}

// noFolder says what to do where the folder for the file is missing.
func noFolder(err error, dir string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &failure{
			Code: "E-FILE-NOT-FOUND", Exit: exitNotFound, err: err,
			What: "there is no folder " + quote(dir) + " for the file", Next: "mkdir -p " + shellQuote(dir),
		}
	}
	return err
}

// keptNote adds to an error that a rerun goes on where this run stopped.
func keptNote(err error, d *node.Download, name string) error {
	st := d.Status()
	return kept(err, name, st.Transfer.Done, st.Size)
}
