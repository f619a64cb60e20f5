package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"shoal/internal/api"
	"shoal/internal/daemon"

	"github.com/spf13/cobra"
)

// maxAnswer bounds what a command reads of the peer's answer.
const maxAnswer = 256 << 20

// control is the way to the peer that runs on this machine for our state folder.
type control struct{ client *http.Client }

// peerHere returns the running peer; nil if there is none, or the user wants to do without.
func (e *env) peerHere(ctx context.Context) *control {
	if e.alone || e.server != defaultServer {
		return nil
	}
	if c := api.Dial(ctx, api.SocketPath(e.state)); c != nil {
		return &control{c}
	}
	return nil
}

// needPeer is peerHere for commands that cannot do without.
func (e *env) needPeer(ctx context.Context) (*control, error) {
	if c := e.peerHere(ctx); c != nil {
		return c, nil
	}
	return nil, errNoPeer
}

// pageOf returns who serves the page: the peer of this machine, or its swarm server.
func (e *env) pageOf(ctx context.Context, server bool) (*control, error) {
	if !server {
		return e.needPeer(ctx)
	}
	if c := api.Dial(ctx, api.ServerSocketPath(e.state)); c != nil {
		return &control{c}, nil
	}
	return nil, &failure{
		Code: errNoPeer.Code, Exit: errNoPeer.Exit, What: "no swarm server with a page runs on this machine",
		Cause: "it was not started, with another --state, or without --web", Next: "shoal server --web " + defaultWeb, Retryable: true,
	}
}

// do asks the peer. In and out may be nil.
func (c *control) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://shoal/api/v1"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return &failure{Code: errNoPeer.Code, Exit: errNoPeer.Exit, What: "the peer of this machine does not answer", Cause: oneLine(err.Error()), Next: "shoal peer    starts it", Retryable: true}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of the peer: %w", err)
	}
	if resp.StatusCode >= 300 {
		f := &daemon.Failure{}
		if json.Unmarshal(b, f) != nil || f.Code == "" {
			return fmt.Errorf("the peer answered %s", resp.Status)
		}
		return f
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// all returns the whole list of transfers.
func (c *control) all(ctx context.Context) (rows []daemon.Row, err error) {
	for {
		var page api.Transfers
		if err := c.do(ctx, http.MethodGet, fmt.Sprintf("/transfers?from=%d&limit=1000", len(rows)), nil, &page); err != nil {
			return nil, err
		}
		if rows = append(rows, page.Transfers...); len(rows) >= page.Total || len(page.Transfers) == 0 {
			return rows, nil
		}
	}
}

// named returns the transfer that people mean: by its name, its path, or the beginning of its own id or of its content's.
func (c *control) named(ctx context.Context, what string) (daemon.Row, error) {
	rows, err := c.all(ctx)
	if err != nil {
		return daemon.Row{}, err
	}
	if len(what) > 1 {
		what = strings.TrimSuffix(what, "/") // as a shell completes a directory
	}
	path := what
	if strings.ContainsRune(what, filepath.Separator) {
		if abs, err := filepath.Abs(what); err == nil {
			path = abs
		}
	}
	var found []daemon.Row
	for _, r := range rows {
		if r.Name == what || r.Path == path || r.ID == what || len(what) >= 6 && (strings.HasPrefix(r.ID, what) || strings.HasPrefix(r.Content, strings.ToLower(what))) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		f := &failure{Code: "E-NO-TRANSFER", Exit: exitNotFound, What: "the peer has nothing called " + quote(what), Next: "shoal status    shows what there is"}
		var names []string
		for _, r := range rows {
			names = append(names, r.Name)
		}
		if like := near(what, names); len(like) > 0 {
			f.Cause = oneLine("did you mean: " + strings.Join(like, ", "))
		}
		return daemon.Row{}, f
	}
	var lines []string
	for _, r := range found[:min(len(found), 10)] {
		lines = append(lines, fmt.Sprintf("%s: %s %s", r.ID, r.Kind, quote(r.Path)))
	}
	return daemon.Row{}, &failure{
		Code: "E-TWO-TRANSFERS", Exit: exitAmbiguous, What: fmt.Sprintf("%s means %d transfers", quote(what), len(found)),
		Cause: strings.Join(lines, "; "), Next: "choose one by its own id, such as " + found[0].ID,
	}
}

func newPause(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "pause NAME...",
		Short:   "Stop a share or download of the peer until it is resumed",
		Example: "  shoal pause ubuntu.img",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachTransfer(cmd.Context(), e, args, "/pause", "is paused", "shoal resume")
		},
	}
}

func newResume(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "resume NAME...",
		Short:   "Let a share or download of the peer go on",
		Long:    `Let a share or download of the peer go on: one that was paused, that has failed, or whose file has changed.`,
		Example: "  shoal resume ubuntu.img",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachTransfer(cmd.Context(), e, args, "/resume", "goes on", "")
		},
	}
}

// eachTransfer changes transfers, and says so.
func eachTransfer(ctx context.Context, e *env, names []string, action, said, next string) error {
	c, err := e.needPeer(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		row, err := c.named(ctx, name)
		if err != nil {
			return err
		}
		if err := c.do(ctx, http.MethodPost, "/transfers/"+url.PathEscape(row.ID)+action, struct{}{}, &row); err != nil {
			return err
		}
		if e.json {
			printTransfer(e, row)
		} else if !e.quiet {
			e.screen.printf("%s %s\n", quote(row.Name), said)
			if next != "" {
				e.screen.printf("  next:  %s %s\n", next, shellQuote(row.Name))
			}
		}
	}
	return nil
}

func newRemove(e *env) *cobra.Command {
	var data bool
	cmd := &cobra.Command{
		Use:   "remove NAME...",
		Short: "Take a share or download off the peer's list",
		Long: `Take a share or download off the peer's list. Files stay where they are; so does what was fetched of a download that is not
complete: the same shoal get goes on with it. With --data what a download has written is removed.`,
		Example: "  shoal remove ubuntu.img\n  shoal remove --data old.iso",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.needPeer(cmd.Context())
			if err != nil {
				return err
			}
			for _, name := range args {
				row, err := c.named(cmd.Context(), name)
				if err != nil {
					return err
				}
				if err := c.do(cmd.Context(), http.MethodDelete, fmt.Sprintf("/transfers/%s?data=%v", url.PathEscape(row.ID), data), struct{}{}, nil); err != nil {
					return err
				}
				if e.json {
					printJSON(e.stdout, struct {
						V    int    `json:"v"`
						T    string `json:"t"`
						ID   string `json:"id"`
						Name string `json:"name"`
					}{1, "removed", row.ID, row.Name})
				} else if !e.quiet {
					e.screen.printf("%s is off the list\n", quote(row.Name))
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&data, "data", false, "remove what the download has written, too")
	return cmd
}

func newWeb(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "web [server]",
		Short: "Print a link that lets a browser into the peer",
		Long: `Print a link that lets a browser into the page of the peer that runs on this machine, or of the swarm server: once, within ten
minutes. Where the page is reached over the network, with a certificate that the peer has made itself, its fingerprint is printed as well: compare it
with what the browser shows. A program sends the token instead, which is in the file web-token of the state folder.`,
		Example:   "  shoal web\n  shoal web server",
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: []string{"server"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] != "server" {
				return &usageError{quote(args[0]) + " is not  server  , whose page the other one is"}
			}
			c, err := e.pageOf(cmd.Context(), len(args) > 0)
			if err != nil {
				return err
			}
			var l api.Login
			if err := c.do(cmd.Context(), http.MethodPost, "/logins", struct{}{}, &l); err != nil {
				return err
			}
			if e.json {
				printJSON(e.stdout, struct {
					V   int    `json:"v"`
					T   string `json:"t"`
					URL string `json:"url"`

					Fingerprint string `json:"fingerprint,omitempty"`
				}{1, "web", l.URL, l.Fingerprint})
				return nil
			}
			if l.Fingerprint != "" && !e.quiet {
				e.screen.printf("The browser asks about the certificate, which this machine has made. It is the right one if its SHA-256 fingerprint is\n  %s\n", l.Fingerprint)
			}
			fmt.Fprintln(e.stdout, l.URL)
			return nil
		},
	}
}

// printTransfer prints a transfer: as an object, or as a line.
func printTransfer(e *env, r daemon.Row) {
	if e.json {
		printJSON(e.stdout, struct {
			V int    `json:"v"`
			T string `json:"t"`
			daemon.Row
		}{1, "transfer", r})
		return
	}
	facts := size(r.Size)
	switch r.State {
	case daemon.Downloading, daemon.Waiting, daemon.Paused:
		if r.Kind == daemon.Download && r.Size > 0 {
			facts = fmt.Sprintf("%s  %d%%", facts, r.Done*100/r.Size)
		}
	case daemon.Hashing:
		if r.Size > 0 {
			facts = fmt.Sprintf("%s  %d%% hashed", facts, r.Checked*100/r.Size)
		}
	}
	if r.Down > 0 {
		facts += fmt.Sprintf("  down %s/s", size(r.Down))
	}
	if r.Up > 0 {
		facts += fmt.Sprintf("  up %s/s", size(r.Up))
	}
	if r.ETA > 0 {
		facts += "  eta " + seconds(time.Duration(r.ETA*float64(time.Second)))
	}
	fmt.Fprintf(e.stdout, "%-11s  %s  %s\n", r.State, printable(slashed(r.Name, kindOf(r))), facts)
	if r.Failure != nil {
		fmt.Fprintf(e.stdout, "             %s: %s\n             next:  %s\n", r.Failure.Code, oneLine(r.Failure.What), oneLine(r.Failure.Next))
	}
}
