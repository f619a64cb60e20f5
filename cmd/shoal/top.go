package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"shoal/internal/api"
	"shoal/internal/daemon"
	"shoal/internal/history"
	"shoal/internal/identity"
	"shoal/internal/node"

	"github.com/muesli/cancelreader"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"
)

const (
	// topHere is how often it is looked what this machine does, topSwarm how often the swarm is asked; a large one that takes long to
	// answer is asked less often.
	topHere  = time.Second
	topSwarm = 2 * time.Second
	// topPatience is how long the swarm may take to answer.
	topPatience = 10 * time.Second
	// topDraw is how often the screen is drawn anew, if nothing was typed.
	topDraw = 250 * time.Millisecond
)

type topOptions struct {
	peerFlags
	count int
}

func newTop(e *env) *cobra.Command {
	var o topOptions
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the swarm and this machine, full screen",
		Long: `Watch the files of the swarm, who is there, and what this machine fetches and gives, until q is pressed; ? shows the other keys. Where
standard output is not a terminal, what there is is printed once; with --json one object a second, until Ctrl-C.`,
		Example: "  shoal top\n  shoal top --json --count 1",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runTop(cmd.Context(), e, o) },
	}
	cmd.Flags().IntVarP(&o.count, "count", "n", 0, "print what there is so many times, and end (0: without a terminal once, with --json for ever)")
	return cmd
}

func runTop(ctx context.Context, e *env, o topOptions) error {
	if o.count < 0 {
		return &usageError{"--count must not be below 0"}
	}
	sw, err := e.need()
	if err != nil {
		return err
	}
	if c := e.peerHere(ctx); c != nil {
		return watchTop(ctx, e, o, &peerTop{c, sw})
	}
	o.listen, o.asks = ":0", true
	m, err := o.member(e, sw, slogQuiet)
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Run(ctx, func(ctx context.Context) error { return watchTop(ctx, e, o, &memberTop{e, m, sw}) })
}

// slogQuiet is a level that nothing has: lines would be drawn over.
const slogQuiet = 12

// topSource knows what there is to see.
type topSource interface {
	swarm(ctx context.Context, s *topState) error // files and peers
	here(ctx context.Context, s *topState) error  // transfers
}

// memberTop is a member that only asks. What other processes of this machine transfer, they have written down.
type memberTop struct {
	e  *env
	m  *node.Member
	sw *identity.Swarm
}

func (t *memberTop) swarm(ctx context.Context, s *topState) error {
	who, err := t.m.Who(ctx, false)
	if err != nil {
		return err
	}
	entries, err := t.m.List(ctx)
	if err != nil {
		return err
	}
	s.Swarm, s.Servers, s.Reachable, s.Up = t.sw.ID().String(), t.sw.Servers(), !t.m.Alone(), t.m.ServerAge().Seconds()
	if t.e.server != defaultServer {
		s.Servers = []string{t.e.server}
	}
	s.Files, s.Peers = []topFile{}, []topPeer{}
	for _, f := range entries {
		s.Files = append(s.Files, topFile{f.Name, f.ID.String(), f.Size, f.Holders, f.Seeds, f.Age, identity.PeerText(f.By), f.Kind.String()})
	}
	for _, p := range who {
		row := topPeer{Peer: identity.PeerText(p.ID), Name: p.Name, Role: p.Role, Addrs: p.Addrs, Shares: p.Shares, Protocol: "shoal/2"}
		switch {
		case p.ID == t.m.Self() && p.Shares == 0: // this command, or another that only looks
			continue
		case p.ID == t.m.Self():
			row.Self = true
		case p.Role == "":
			row.Protocol, row.Peer = "classic", ""
		}
		s.Peers = append(s.Peers, row)
	}
	return nil
}

func (t *memberTop) here(_ context.Context, s *topState) error {
	running, _, err := history.In(t.e.state).List(time.Now())
	s.Transfers = []topTransfer{}
	for _, r := range running {
		row := topTransfer{
			Kind: r.Kind, State: string(daemon.Downloading), Name: r.Name, ID: r.ID, Size: r.Size, Done: r.Done, Down: r.Rate, Sent: r.Sent, Sources: r.Sources,
		}
		switch {
		case r.Kind == history.Share:
			row.State, row.Down, row.Up = string(daemon.Seeding), 0, r.Rate
		case r.Size == 0 || r.Sources == 0 && r.Rate == 0:
			row.State = string(daemon.Waiting)
		case r.Rate > 0:
			row.ETA = float64(r.Size-r.Done) / float64(r.Rate)
		}
		s.Transfers = append(s.Transfers, row)
	}
	return err
}

// peerTop is the peer that runs on this machine.
type peerTop struct {
	c  *control
	sw *identity.Swarm
}

func (t *peerTop) swarm(ctx context.Context, s *topState) error {
	s.Swarm, s.Servers, s.Running = t.sw.ID().String(), t.sw.Servers(), true
	var m api.Members
	if err := t.c.do(ctx, http.MethodGet, "/swarms/"+s.Swarm+"/members", nil, &m); err != nil {
		return err
	}
	entries, err := t.c.files(ctx, t.sw.ID())
	if err != nil {
		return err
	}
	s.Reachable, s.Up = true, m.Up
	s.Files, s.Peers = []topFile{}, []topPeer{}
	for _, f := range entries {
		s.Files = append(s.Files, topFile{f.Name, f.ID.String(), f.Size, f.Holders, f.Seeds, f.Age, identity.PeerText(f.By), f.Kind.String()})
	}
	for _, p := range m.Members {
		s.Peers = append(s.Peers, topPeer{p.Peer, p.Name, p.Role, p.Addrs, p.Shares, p.Protocol, p.Self})
	}
	return nil
}

func (t *peerTop) here(ctx context.Context, s *topState) error {
	rows, err := t.c.all(ctx)
	if err != nil {
		return err
	}
	s.Transfers = []topTransfer{}
	for _, r := range rows {
		if r.Swarm != t.sw.ID().String() {
			continue
		}
		kind := "get"
		if r.Kind == daemon.Share {
			kind = "share"
		}
		s.Transfers = append(s.Transfers, topTransfer{
			kind, string(r.State), r.Name, r.Content, r.Size, r.Done, r.Down, r.Up, r.Sent, r.ETA, r.Sources,
		})
	}
	return nil
}

// topReader asks a source again and again.
type topReader struct {
	source topSource
	state  topState
	known  map[string]bool // peers at the last look
	moves  []topMove
	next   time.Time // when the swarm is asked
	shown  atomic.Pointer[topState]
}

// topMove is how many peers came and went at a time.
type topMove struct {
	at           time.Time
	joined, left int
}

// read asks what is due. Only a first look that fails is an error; later what is known stays, and the reason is shown.
func (r *topReader) read(ctx context.Context, now time.Time) error {
	s := r.state
	var err error
	if !now.Before(r.next) {
		asking, cancel := context.WithTimeout(ctx, topPatience)
		err = r.source.swarm(asking, &s)
		cancel()
		r.next = now.Add(max(topSwarm, 10*time.Since(now)))
		if s.problem = ""; err != nil {
			s = r.state
			s.problem = "no answer: trying again"
		} else {
			r.count(now, &s)
		}
	}
	err = errors.Join(err, r.source.here(ctx, &s))
	first := r.shown.Load() == nil
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if first && err != nil {
		return err
	}
	if err != nil {
		s.problem = "no answer: trying again"
	}
	r.state = s
	r.shown.Store(&s)
	return nil
}

// count notes who has come and gone in the last minute.
func (r *topReader) count(now time.Time, s *topState) {
	known := make(map[string]bool, len(s.Peers))
	move := topMove{at: now}
	for _, p := range s.Peers {
		key := p.Peer + " " + strings.Join(p.Addrs, " ")
		if known[key] = true; r.known != nil && !r.known[key] {
			move.joined++
		}
	}
	for key := range r.known {
		if !known[key] {
			move.left++
		}
	}
	r.known = known
	r.moves = append(r.moves, move)
	for now.Sub(r.moves[0].at) > time.Minute {
		r.moves = r.moves[1:]
	}
	s.joined, s.left = 0, 0
	for _, m := range r.moves {
		s.joined, s.left = s.joined+m.joined, s.left+m.left
	}
}

// watchTop shows what a source knows, as it fits where it is shown.
func watchTop(ctx context.Context, e *env, o topOptions, source topSource) error {
	r := &topReader{source: source}
	if err := r.read(ctx, time.Now()); err != nil {
		return err
	}
	out, isFile := e.stdout.(*os.File)
	in, hasInput := e.stdin.(*os.File)
	if e.json || o.count > 0 || !isFile || !isTerminal(out) || !canDraw(out) || !hasInput || !isTerminal(in) {
		return r.print(ctx, e, o.count)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.run(ctx) })
	g.Go(func() error {
		defer cancel()
		return fullScreen(ctx, e, in, out, r.shown.Load)
	})
	err := g.Wait()
	if errors.Is(err, errQuit) {
		return nil
	}
	return err
}

var errQuit = errors.New("the user has seen enough")

func (r *topReader) run(ctx context.Context) error {
	ticker := time.NewTicker(topHere)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := r.read(ctx, time.Now()); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// print prints what there is, as objects or as text.
func (r *topReader) print(ctx context.Context, e *env, n int) error {
	if n == 0 && !e.json {
		n = 1
	}
	ticker := time.NewTicker(topHere)
	defer ticker.Stop()
	for i := 1; ; i++ {
		s := r.shown.Load()
		if e.json {
			printJSON(e.stdout, struct {
				V int    `json:"v"`
				T string `json:"t"`
				*topState
			}{1, "top", s})
		} else {
			printTop(e, s)
		}
		if i == n {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
		if err := r.read(ctx, time.Now()); err != nil {
			return err
		}
	}
}

func printTop(e *env, s *topState) {
	k := look{width: 120, utf8: e.screen.utf8}
	if isTerminal(e.stdout) {
		k.width, _ = terminalSize(e.stdout)
		k.width--
	}
	u := topUI{endless: true}
	for _, l := range u.lines(s, k) {
		fmt.Fprintln(e.stdout, l.cut(k.width).paint(wantsColour(isTerminal(e.stdout), os.Getenv)))
	}
}

// fullScreen has the terminal to itself until q is pressed.
func fullScreen(ctx context.Context, e *env, in, out *os.File, state func() *topState) error {
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return err
	}
	defer term.Restore(int(in.Fd()), old)
	defer e.screen.mute()()
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l")
	defer fmt.Fprint(out, "\x1b[?25h\x1b[?1049l")
	reader, err := cancelreader.NewReader(in)
	if err != nil {
		return err
	}
	defer reader.Close()
	keys := make(chan []string)
	var g errgroup.Group
	g.Go(func() error { readKeys(ctx, reader, keys); return nil })
	defer func() {
		reader.Cancel()
		_ = g.Wait()
	}()
	ticker := time.NewTicker(topDraw)
	defer ticker.Stop()
	var ui topUI
	drawn := ""
	for {
		width, height := terminalSize(out)
		k := look{width: max(width-1, 20), height: max(height, 6), utf8: e.screen.utf8}
		if frame := topFrame(ui.lines(state(), k), k, wantsColour(true, os.Getenv)); frame != drawn {
			drawn = frame
			fmt.Fprint(out, frame)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		case pressed, open := <-keys:
			if !open {
				return errQuit
			}
			for _, key := range pressed {
				var quit bool
				if ui, quit = ui.key(key); quit {
					return errQuit
				}
				ui.lines(state(), k) // what is chosen is one of those that there are
			}
		}
	}
}

// topFrame is a screen as the terminal is sent it.
func topFrame(lines []line, k look, colour bool) string {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, l := range lines[:min(len(lines), k.height)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l.cut(k.width).paint(colour) + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	return b.String()
}

// readKeys hands on what is typed, until the reader is cancelled.
func readKeys(ctx context.Context, in io.Reader, keys chan<- []string) {
	defer close(keys)
	buf := make([]byte, 256)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			select {
			case keys <- keysOf(string(buf[:n])):
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// keyNames are what terminals send for keys that are no characters.
var keyNames = []struct{ sent, name string }{
	{"\x1b[A", "up"},
	{"\x1bOA", "up"},
	{"\x1b[B", "down"},
	{"\x1bOB", "down"},
	{"\x1b[5~", "pageup"},
	{"\x1b[6~", "pagedown"},
	{"\x1b[H", "home"},
	{"\x1bOH", "home"},
	{"\x1b[1~", "home"},
	{"\x1b[F", "end"},
	{"\x1bOF", "end"},
	{"\x1b[4~", "end"},
	{"\r", "enter"},
	{"\n", "enter"},
	{"\x7f", "backspace"},
	{"\b", "backspace"},
	{"\x03", "ctrl-c"},
}

// keysOf reads the keys from what a terminal has sent. A key that has no name here is left out.
func keysOf(sent string) (keys []string) {
next:
	for sent != "" {
		for _, k := range keyNames {
			if rest, is := strings.CutPrefix(sent, k.sent); is {
				keys, sent = append(keys, k.name), rest
				continue next
			}
		}
		if sent[0] != '\x1b' {
			_, n := utf8.DecodeRuneInString(sent)
			keys, sent = append(keys, sent[:n]), sent[n:]
			continue
		}
		if len(sent) > 2 && (sent[1] == '[' || sent[1] == 'O') { // some other key: to its last letter
			end := strings.IndexFunc(sent[2:], func(r rune) bool { return r >= '@' && r <= '~' })
			if end < 0 {
				return keys
			}
			sent = sent[2+end+1:]
			continue
		}
		keys, sent = append(keys, "esc"), sent[1:]
	}
	return keys
}
