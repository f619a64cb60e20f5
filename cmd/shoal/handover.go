package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"shoal/internal/api"
	"shoal/internal/content"
	"shoal/internal/daemon"
	"shoal/internal/exchange"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/wire"
)

// lookEvery is how often a command asks the peer how a transfer goes.
const lookEvery = 100 * time.Millisecond

// ofItsOwn says whether a command says how its own peer is to be: then it does not use the one that runs.
func (p *peerFlags) ofItsOwn() bool { return p.classic || p.listen != "" || p.advertise != "" }

// handShares has the running peer share files, and returns when they are hashed.
func handShares(ctx context.Context, e *env, c *control, o shareOptions, files []string) error {
	var sw *identity.Swarm
	var shares []*node.Sharing
	for _, path := range files {
		row, err := c.handShare(ctx, e, o, path)
		if err != nil {
			return err
		}
		row, err = c.until(ctx, e, row, func(r daemon.Row) bool { return r.State == daemon.Seeding })
		if err != nil {
			return stillGoingOn(err, row)
		}
		states, err := e.states()
		if err != nil {
			return err
		}
		id, err := identity.ParseSwarm(row.Swarm)
		if err == nil {
			sw, err = states.Swarm(id)
		}
		if err != nil {
			return err
		}
		if row.Directory {
			c.noteLeftOut(ctx, e, row)
		}
		s := sharingOf(row)
		shares = append(shares, s)
		if err := announce(e, c.addr(ctx, row.Swarm), s, false); err != nil {
			return err
		}
	}
	return tellOthers(e, sw, shares, handedOver)
}

// handShare has the running peer share one path, or standard input.
func (c *control) handShare(ctx context.Context, e *env, o shareOptions, path string) (row daemon.Row, err error) {
	req := daemon.ShareRequest{Name: o.name, Swarm: e.swarm, Spooled: path == "-"}
	if req.Spooled {
		req.Path, err = spoolForPeer(ctx, e, o)
	} else {
		req.Path, err = filepath.Abs(path)
	}
	if err != nil {
		return row, err
	}
	err = c.do(ctx, http.MethodPost, "/shares", req, &row)
	if err != nil && req.Spooled {
		err = errors.Join(err, os.Remove(req.Path))
	}
	return row, err
}

// noteLeftOut says what of a directory is not shared.
func (c *control) noteLeftOut(ctx context.Context, e *env, row daemon.Row) {
	var d daemon.Detail
	if c.do(ctx, http.MethodGet, "/transfers/"+url.PathEscape(row.ID), nil, &d) != nil {
		return
	}
	for _, l := range d.Log {
		if strings.HasPrefix(l.Text, "left out: ") {
			note(e, l.Text)
		}
	}
}

// kindOf is the kind of a transfer's content.
func kindOf(r daemon.Row) wire.Kind {
	if r.Directory {
		return wire.KindDirectory
	}
	return wire.KindFile
}

// sharingOf is what a command says of a share of the peer's.
func sharingOf(r daemon.Row) *node.Sharing {
	id, _ := content.ParseID(r.Content)
	return &node.Sharing{Name: r.Name, Path: r.Path, Kind: kindOf(r), Manifest: &content.Manifest{ID: id, Geo: content.Geometry{Size: r.Size}}}
}

// addr returns where the peer serves others in a swarm, as :PORT.
func (c *control) addr(ctx context.Context, swarm string) string {
	var all api.Swarms
	if c.do(ctx, http.MethodGet, "/swarms", nil, &all) == nil {
		for _, s := range all.Swarms {
			if i := strings.LastIndexByte(s.Addr, ':'); s.ID == swarm && i >= 0 {
				return s.Addr[i:]
			}
		}
	}
	return ""
}

// until waits until a share is as it should be, and shows how its hashing goes.
func (c *control) until(ctx context.Context, e *env, row daemon.Row, good func(daemon.Row) bool) (daemon.Row, error) {
	if !e.json && !e.quiet {
		defer e.screen.show(func() gauge {
			return gauge{Label: "Hashing " + cut(quote(filepath.Base(row.Path)), 24)}
		})()
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for !good(row) {
		if row.Failure != nil {
			return row, row.Failure
		}
		select {
		case <-ctx.Done():
			return row, context.Cause(ctx)
		case <-ticker.C:
		}
		var d daemon.Detail
		if err := c.do(ctx, http.MethodGet, "/transfers/"+url.PathEscape(row.ID), nil, &d); err != nil {
			return row, err
		}
		row = d.Row
	}
	return row, nil
}

// stillGoingOn says of a stop by the user that the peer does not stop.
func stillGoingOn(err error, row daemon.Row) error {
	var stopped *signalError
	if !errors.Is(err, context.Canceled) && !errors.As(err, &stopped) {
		return err
	}
	return &keptError{error: err, next: fmt.Sprintf("shoal status    shows how the peer of this machine goes on with %s; shoal pause %s    stops it", quote(row.Name), shellQuote(row.Name))}
}

// handGet has the running peer fetch a content, and shows how it goes until it is complete.
func handGet(ctx context.Context, e *env, c *control, o getOptions, what string) error {
	dir, file := target(o.output, "")
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return noFolder(err, strings.TrimSuffix(o.output, string(filepath.Separator)))
	}
	began := time.Now()
	var d daemon.Detail
	req := daemon.DownloadRequest{
		What: what, Dir: dir, Target: file, Content: o.blake3, Swarm: e.swarm, Overwrite: o.overwrite, Restart: o.restart, Wait: o.wait, Once: o.once,
		Patience: o.timeout, Either: file == "" && isPath(o.output), Only: o.only, Except: o.except,
	}
	if err := c.do(ctx, http.MethodPost, "/downloads", req, &d.Row); err != nil {
		if !strings.HasPrefix(what, "shoal://") { // stopped before it has answered, it may have taken the download on
			err = stillGoingOn(err, daemon.Row{Name: what})
		}
		return err
	}
	already := d.State == daemon.Complete
	w := &fetchWatcher{e: e}
	if !already {
		if err := w.follow(ctx, c, &d); err != nil {
			if d.Directory && d.Failure != nil && d.Failure.Code == "E-EXISTS" {
				_, none := os.Lstat(filepath.Join(dir, d.Name))
				err = dirExists(err, o.output, req.Either && none != nil)
			}
			return handFailed(ctx, c, handNear(ctx, e, c, err, d.Row), d.Row)
		}
	}
	id, err := content.ParseID(d.Content)
	if err != nil {
		return err
	}
	got := &node.Fetched{
		Name: d.Name, Path: shown(d.Path, o.output), ID: id, Size: d.Size, Resumed: d.Resumed, Received: d.Received, Wasted: d.Wasted, Already: already || d.Already,
		Directory: d.Directory, Partly: d.Partly,
	}
	for _, n := range d.Neighbours {
		if n.Received > 0 {
			got.Sources++
		}
	}
	printFetched(e, got, time.Since(began), false)
	return nil
}

// shown is a path as the user has written its folder.
func shown(path, output string) string {
	if abs, err := filepath.Abs(output); err == nil && abs == path { // it is there by now
		return filepath.Clean(output)
	}
	dir, file := target(output, filepath.Base(path))
	return filepath.Join(dir, file)
}

// follow shows how a download of the peer goes, until it is complete.
func (w *fetchWatcher) follow(ctx context.Context, c *control, d *daemon.Detail) error {
	defer w.show()()
	w.parts = func(exchange.Progress) strip { return stripOfColumns(d.Pieces) }
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		w.sampler.ids = make(map[string]string)
		for _, n := range d.Neighbours {
			w.sampler.ids[n.Addr] = n.Peer
		}
		w.tell(statusOf(*d))
		switch {
		case d.State == daemon.Complete:
			return nil
		case d.Failure != nil:
			return d.Failure
		case d.State == daemon.Paused:
			return &failure{
				Code: "E-PAUSED", Exit: exitIncomplete, Retryable: true, What: quote(d.Name) + " was paused", Next: "shoal resume " + shellQuote(d.Name),
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
		var next daemon.Detail
		if err := c.do(ctx, http.MethodGet, "/transfers/"+url.PathEscape(d.ID), nil, &next); err != nil {
			return err
		}
		*d = next
	}
}

// handFailed takes off the list what came to nothing, so that a typing error leaves no traces.
func handFailed(ctx context.Context, c *control, err error, row daemon.Row) error {
	if row.Failure != nil && row.Content == "" {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = c.do(ctx, http.MethodDelete, "/transfers/"+url.PathEscape(row.ID), struct{}{}, nil)
	}
	if row.Failure != nil {
		return kept(err, row.Name, row.Done, row.Size)
	}
	return stillGoingOn(err, row)
}

// statusOf is a download of the peer's as one of our own.
func statusOf(r daemon.Detail) node.FetchStatus {
	st := node.FetchStatus{Name: r.Name, Size: r.Size, Resumed: r.Resumed, Checked: r.Checked}
	switch {
	case r.State == daemon.Hashing:
		st.Phase = node.Checking
	case r.State == daemon.Downloading:
		st.Phase = node.Fetching
	case r.State == daemon.Complete:
		st.Phase = node.Complete
	case r.Content == "":
		st.Phase = node.Searching
	default:
		st.Phase = node.Meeting
	}
	st.Exchange = exchange.Progress{
		Done: r.Done, Arriving: r.Arriving, Received: r.Received, Wasted: r.Wasted, Sent: r.Sent, Rate: float64(r.Down), Paused: r.DiskFull,
	}
	for _, n := range r.Neighbours {
		st.Exchange.Neighbours = append(st.Exchange.Neighbours, exchange.Neighbour{
			Name: n.Addr, Pieces: uint32(n.Pieces), Received: n.Received, Sent: n.Sent, Active: n.Active,
			RTT: time.Duration(n.RTT * float64(time.Second)),
		})
	}
	return st
}

// handLs lists what a swarm has, as the running peer knows it.
func handLs(ctx context.Context, e *env, c *control) error {
	sw, err := e.need()
	if err != nil {
		return err
	}
	entries, err := c.files(ctx, sw.ID())
	if err != nil {
		return err
	}
	printFiles(e, entries)
	return nil
}

func (c *control) files(ctx context.Context, swarm identity.SwarmID) (entries []wire.Entry, err error) {
	var files api.Files
	if err := c.do(ctx, http.MethodGet, "/swarms/"+swarm.String()+"/files?limit=1048576", nil, &files); err != nil {
		return nil, err
	}
	for _, f := range files.Files {
		id, err := content.ParseID(f.ID)
		if err != nil {
			return nil, err
		}
		by, err := identity.ParsePeer(f.By)
		if err != nil {
			return nil, err
		}
		e := wire.Entry{Name: f.Name, ID: id, Size: f.Size, Holders: f.Holders, Seeds: f.Seeds, Age: f.Age, By: by}
		if f.Kind == wire.KindDirectory.String() {
			e.Kind = wire.KindDirectory
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// facts returns what status says of a swarm, as the running peer knows it.
func (c *control) facts(ctx context.Context, swarm identity.SwarmID) (f swarmFacts, err error) {
	var m api.Members
	if err := c.do(ctx, http.MethodGet, "/swarms/"+swarm.String()+"/members", nil, &m); err != nil {
		return f, err
	}
	entries, err := c.files(ctx, swarm)
	if err != nil {
		return f, err
	}
	for _, who := range m.Members {
		if !who.Self {
			f.here++
		}
	}
	f.add(entries)
	f.up = time.Duration(m.Up * float64(time.Second))
	return f, nil
}
