package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"shoal/internal/daemon"
	"shoal/internal/node"
	"shoal/internal/store"
	"shoal/internal/wire"
)

// sharePath shares a file or a directory, and shows how it is hashed.
func sharePath(ctx context.Context, e *env, m *node.Member, path, name string) (*node.Sharing, error) {
	if fi, err := os.Stat(path); err != nil || !fi.IsDir() {
		count, stop := hashing(e, path)
		defer stop()
		return m.Share(ctx, path, name, count)
	}
	if name == "" {
		abs, err := filepath.Abs(path) // "." has a name as well
		if err != nil {
			return nil, err
		}
		name = filepath.Base(abs)
	}
	scanned, err := store.Scan(ctx, path)
	if err != nil {
		return nil, err
	}
	for _, s := range scanned.Skipped {
		note(e, fmt.Sprintf("left out: %s: %s", quote(s.Path), s.Why))
	}
	if scanned.Left > 0 {
		note(e, fmt.Sprintf("left out: %d more", scanned.Left))
	}
	count, stop := hashingOf(e, name+"/", scanned.Listing.Size)
	defer stop()
	return m.ShareDir(ctx, scanned, name, count)
}

// note tells what the user should know.
func note(e *env, text string) {
	if e.json {
		printJSON(e.stdout, jsonNote{1, "note", text})
	} else if !e.quiet {
		e.screen.printf("note: %s\n", oneLine(text))
	}
}

// titled is a content's name as people see it: a directory has a slash behind it.
func titled(name string, kind wire.Kind) string { return quote(slashed(name, kind)) }

func slashed(name string, kind wire.Kind) string {
	if kind == wire.KindDirectory {
		name += "/"
	}
	return name
}

// onlyFiles refuses directories where a way of sharing has none.
func onlyFiles(o shareOptions, files []string) error {
	if !o.classic && !o.http {
		return nil
	}
	for _, path := range files {
		if fi, err := os.Stat(path); err != nil || !fi.IsDir() {
			continue
		}
		cause := "the classic protocol knows files alone"
		if !o.classic {
			cause = "curl would get its files in one stream that only shoal takes apart"
		}
		return &failure{
			Code: "E-USAGE", Exit: exitUsage, What: quote(path) + " is a directory, which cannot be shared this way", Cause: cause,
			Next: "share it without --classic and --http, or an archive of it:  tar cf - " + shellQuote(path) + " | shoal share - --name " + shellQuote(filepath.Base(path)+".tar"),
		}
	}
	return nil
}

// spoolInput writes standard input to a file where "-" is to be shared, since a content is known only when all of it is. The file is removed by
// the function that is returned.
func spoolInput(ctx context.Context, e *env, o shareOptions, files []string) (paths []string, remove func(), err error) {
	remove = func() {}
	if !isInput(files) {
		return files, remove, nil
	}
	if err := checkInput(o); err != nil {
		return nil, remove, err
	}
	dir, err := os.MkdirTemp("", "shoal-")
	if err != nil {
		return nil, remove, err
	}
	remove = func() { os.RemoveAll(dir) }
	path := filepath.Join(dir, "input")
	if err := spoolTo(ctx, e, path, "at the end"); err != nil {
		remove()
		return nil, func() {}, err
	}
	return []string{path}, remove, nil
}

// isInput says whether standard input is to be shared.
func isInput(files []string) bool { return len(files) == 1 && files[0] == "-" }

// checkInput makes sure that what comes from standard input has a name.
func checkInput(o shareOptions) error {
	if o.name == "" {
		return &usageError{"what comes from standard input needs a name: shoal share - --name NAME"}
	}
	if err := wire.CheckName(o.name); err != nil {
		return fmt.Errorf("--name: %w", err)
	}
	return nil
}

// spoolForPeer writes standard input to a file of the running peer's.
func spoolForPeer(ctx context.Context, e *env, o shareOptions) (path string, err error) {
	if err := checkInput(o); err != nil {
		return "", err
	}
	dir := daemon.Spool(e.state)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path = filepath.Join(dir, rand.Text())
	if err := spoolTo(ctx, e, path, "with the share"); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	return path, nil
}

// spoolTo writes standard input to a file.
func spoolTo(ctx context.Context, e *env, path, until string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if in, ok := e.stdin.(*os.File); ok {
		if fi, err := in.Stat(); err == nil && fi.Mode().IsRegular() {
			if free, err := store.FreeSpace(filepath.Dir(path)); err == nil && fi.Size() > free {
				return spoolFull(path, &store.SpaceError{Path: path, Need: fi.Size(), Free: free})
			}
		}
	}
	if !e.quiet && !e.json {
		e.screen.printf("Reading standard input into %s, which is removed %s\n", path, until)
	}
	if err := copyInput(ctx, f, e.stdin); err != nil {
		return spoolFull(path, err)
	}
	return f.Close()
}

// copyInput copies until the end, or until ctx ends. The goroutine that reads ends with the input: a read of a pipe cannot be interrupted, and
// the process may end before it.
func copyInput(ctx context.Context, out io.Writer, in io.Reader) error {
	done := make(chan error, 1)
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, 1<<20))
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// spoolFull says what to do where the temporary folder is too small.
func spoolFull(path string, err error) error {
	f := explainSpace(err)
	if f == nil || errors.Is(err, fs.ErrPermission) {
		return err
	}
	f.err = err
	f.What = "there is not enough space in " + quote(filepath.Dir(filepath.Dir(path))) + " for what comes from standard input"
	f.Next = "name another folder:  TMPDIR=/path shoal share - --name ..."
	f.Cause = strings.TrimSpace(oneLine(err.Error()))
	return f
}
