package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"shoal/internal/node"
	"shoal/internal/wire"

	"github.com/spf13/cobra"
)

const (
	// completeTime is how long a shell waits for names. Who presses Tab does not wait for a network.
	completeTime = 100 * time.Millisecond
	// maxCompletions is how many names a shell is offered at most.
	maxCompletions = 200
)

// addCompletions says what a shell offers behind each command: names of the swarm, of the peer's list, files, or nothing.
func addCompletions(e *env, root *cobra.Command) {
	files := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveDefault
	}
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "share", "id", "verify", "demo":
			cmd.ValidArgsFunction = files
		case "get":
			cmd.ValidArgsFunction = e.completer(1, e.swarmNames)
		case "pause", "resume", "remove":
			cmd.ValidArgsFunction = e.completer(maxCompletions, e.transferNames)
		default:
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
}

// completer offers what names returns in time, for at most so many arguments.
func (e *env) completer(args int, names func(context.Context) ([]named, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, begin string) ([]string, cobra.ShellCompDirective) {
		if len(given) >= args {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTime)
		defer cancel()
		e.quiet = true
		got := make(chan []named, 1)
		go func() { // nobody waits for what comes too late: the process ends
			list, err := names(ctx)
			if err != nil {
				list = nil
			}
			got <- list
		}()
		select {
		case list := <-got:
			return completions(list, begin), cobra.ShellCompDirectiveNoFileComp
		case <-ctx.Done():
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// named is something that a shell may offer: by its name, or by its id where the name means something to a shell.
type named struct{ name, id, about string }

// completions returns what begins as the user began. A stranger chose the names, and a shell takes what it completes as typed: one that
// would be more than a word is offered by its id.
func completions(list []named, begin string) (out []string) {
	for _, n := range list {
		word, about := n.name, n.about
		if word == "" || shellQuote(word) != word || strings.Contains(word, ":") {
			word, about = n.id, quote(n.name)+", "+about
		}
		if strings.HasPrefix(word, begin) && len(out) < maxCompletions {
			out = append(out, word+"\t"+about)
		}
	}
	return out
}

// swarmNames returns what get may be told: what the running peer knows, or the swarm's server.
func (e *env) swarmNames(ctx context.Context) (list []named, err error) {
	var entries []wire.Entry
	if c := e.peerHere(ctx); c != nil {
		sw, err := e.need()
		if err != nil {
			return nil, err
		}
		if entries, err = c.files(ctx, sw.ID()); err != nil {
			return nil, err
		}
	} else if err = e.inSwarm(ctx, peerFlags{}, func(ctx context.Context, m *node.Member) (err error) {
		entries, err = m.List(ctx)
		return err
	}); err != nil {
		return nil, err
	}
	for _, f := range entries {
		list = append(list, named{f.Name, f.ID.String()[:16], size(f.Size) + ", " + count(int(f.Holders), "holder")})
	}
	return list, nil
}

// transferNames returns what is on the running peer's list.
func (e *env) transferNames(ctx context.Context) (list []named, err error) {
	c, err := e.needPeer(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := c.all(ctx)
	for _, r := range rows {
		list = append(list, named{r.Name, r.ID, fmt.Sprintf("%s, %s", r.State, size(r.Size))})
	}
	return list, err
}
