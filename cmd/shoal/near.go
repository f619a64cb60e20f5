package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"shoal/internal/content"
	"shoal/internal/daemon"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/store"
	"shoal/internal/wire"
)

// nearTime bounds the search for names that may have been meant.
const nearTime = 3 * time.Second

// nearError is something that was not found, with what is called nearly so.
type nearError struct {
	error
	what string
	like []wire.Entry
}

func (e *nearError) Unwrap() error { return e.error }

// explainNear adds to what is told of a name that nobody shares those that are like it.
func explainNear(err error) *failure {
	var n *nearError
	if !errors.As(err, &n) || len(n.like) == 0 {
		return nil
	}
	f := *explainWhat(n.error)
	var names []string
	for _, e := range n.like {
		names = append(names, fmt.Sprintf("%s  %s", quote(e.Name), size(e.Size)))
	}
	f.Cause = "did you mean: " + strings.Join(names, ", ")
	f.Next = "shoal get " + shellQuote(n.like[0].Name) + "    or wait for the other:  shoal get --wait " + shellQuote(n.what)
	return &f
}

// like returns the entries whose names are nearest to one.
func like(name string, entries []wire.Entry) (out []wire.Entry) {
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	for _, n := range near(name, names) {
		for _, e := range entries {
			if e.Name == n {
				out = append(out, e)
				break
			}
		}
	}
	return out
}

// withNear adds to the error of a name that nobody shares those that are like it.
func withNear(ctx context.Context, err error, name string, list func(ctx context.Context) ([]wire.Entry, error)) error {
	if isID(name) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nearTime)
	defer cancel()
	entries, _ := list(ctx) // what came of it is better than nothing
	return &nearError{err, name, like(name, entries)}
}

// isID says whether what was asked for is, or may be, an id.
func isID(what string) bool {
	_, err := content.ParsePrefix(what)
	return err == nil
}

// fetchFailed adds to the error of a fetch what the user can do about it, and what is kept.
func fetchFailed(ctx context.Context, m *node.Member, err error, st node.FetchStatus) error {
	var missing *node.NoContentError
	switch {
	case errors.As(err, &missing):
		return withNear(ctx, err, missing.What, m.List)
	case errors.Is(err, node.ErrNoProgress) && st.Phase == node.Meeting && len(st.Exchange.Neighbours) == 0:
		err = noSource(err, st.Name)
	}
	return kept(err, st.Name, st.Exchange.Done, st.Size)
}

// noSource is the failure of a fetch to which no holder has connected.
func noSource(err error, name string) error {
	return &failure{
		Code: "E-NO-SOURCE", Exit: exitUnreachable, Retryable: true, err: err, What: "none of those who have " + quote(name) + " can be reached",
		Cause: "the swarm server names holders, and no connection to them came about", Next: "shoal doctor",
	}
}

// handNear is withNear for what the running peer did not find.
func handNear(ctx context.Context, e *env, c *control, err error, row daemon.Row) error {
	var f *daemon.Failure
	if !errors.As(err, &f) || f.Code != "E-NAME-NOT-FOUND" {
		return err
	}
	return withNear(ctx, err, row.Name, func(ctx context.Context) ([]wire.Entry, error) {
		id, err := identity.ParseSwarm(row.Swarm)
		if err != nil {
			return nil, err
		}
		return c.files(ctx, id)
	})
}

// getError is the end of a get: what it fetched is called that, and again is the command that was typed, as far as it matters.
type getError struct {
	error
	name, again string
	dir         string // in which it was to be
}

func (e *getError) Unwrap() error { return e.error }

// ofGet adds to an error what the next command of a get needs.
func ofGet(err error, name, dir string, o getOptions) error {
	if err == nil || name == "" {
		return err
	}
	again := "shoal get " + shellQuote(name)
	if o.output != "." {
		again = "shoal get -o " + shellQuote(o.output) + " " + shellQuote(name)
	}
	return &getError{err, name, again, dir}
}

// explainGet says of a file that cannot be where it was to be what to type instead.
func explainGet(err error) *failure {
	var g *getError
	if !errors.As(err, &g) {
		return nil
	}
	f := *explainWhat(g.error)
	elsewhere := "shoal get -o PATH " + shellQuote(g.name) + "    puts it elsewhere"
	var space *store.SpaceError
	var at *fs.PathError
	switch {
	case f.Code == "E-EXISTS" && errors.Is(g.error, store.ErrExists):
		f.Next = strings.Replace(g.again, "shoal get ", "shoal get --overwrite ", 1) + "    replaces an ordinary file when the new one is complete; " + elsewhere
	case f.Code == "E-NO-SPACE" && errors.As(g.error, &space):
		f.Next = "free " + size(space.Need-space.Free) + "; or  " + elsewhere
	case f.Code == "E-PERM":
		if fi, err := os.Stat(g.dir); err == nil && errors.As(g.error, &at) && strings.HasPrefix(at.Path, ".shoal-") {
			f.What = "cannot write in the folder " + quote(g.dir) + ": permission denied"
			f.Cause += fmt.Sprintf("; the folder's mode is %04o", fi.Mode().Perm())
		}
		f.Next = elsewhere + "; or ask for the permission"
	case f.Code == "E-READONLY", f.Code == "E-FILE-TOO-BIG":
		f.Next = elsewhere
	case f.Code == "E-LOCKED":
		f.Next = "wait for the other; or  " + elsewhere
	}
	return &f
}

// keptError is an end after which the same command goes on where it was, or something goes on by itself.
type keptError struct {
	error
	note string // what is kept
	next string // instead of what else would be said; empty: nothing
}

func (e *keptError) Unwrap() error { return e.error }

// kept adds to an error what of a download is kept.
func kept(err error, name string, done, all int64) error {
	if done == 0 || all == 0 {
		return err
	}
	return &keptError{error: err, note: fmt.Sprintf("%s of %s of %s are safe: the same command goes on", size(done), size(all), quote(name))}
}
