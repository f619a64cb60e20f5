package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"shoal/internal/daemon"
	"shoal/internal/wire"
)

// topState is what shoal top shows: a swarm, and what this machine does in it. Sizes are bytes, rates bytes per second, times seconds.
type topState struct {
	Swarm     string        `json:"swarm"`
	Servers   []string      `json:"servers"`
	Reachable bool          `json:"reachable"` // the server, or others on this network
	Up        float64       `json:"up"`        // of the server
	Running   bool          `json:"running"`   // a peer runs on this machine
	Files     []topFile     `json:"files"`
	Peers     []topPeer     `json:"peers"`
	Transfers []topTransfer `json:"transfers"`

	problem      string
	joined, left int // in the last minute
}

// topFile is a file of the swarm.
type topFile struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Size    int64  `json:"size"`
	Holders uint64 `json:"holders"`
	Seeds   uint64 `json:"seeds"`
	Age     uint64 `json:"age"`
	By      string `json:"by"`
	Kind    string `json:"kind"` // file, directory
}

// shown is how people see its name.
func (f topFile) shown() string {
	if f.Kind == wire.KindDirectory.String() {
		return f.Name + "/"
	}
	return f.Name
}

// topPeer is another member that is there.
type topPeer struct {
	Peer     string   `json:"peer,omitempty"`
	Name     string   `json:"name,omitempty"`
	Role     string   `json:"role,omitempty"`
	Addrs    []string `json:"addrs,omitempty"`
	Shares   uint64   `json:"shares"`
	Protocol string   `json:"protocol"`
	Self     bool     `json:"self"` // it runs on this machine
}

// topTransfer is what this machine fetches or gives.
type topTransfer struct {
	Kind    string  `json:"kind"` // get, share
	State   string  `json:"state"`
	Name    string  `json:"name"`
	ID      string  `json:"id"`
	Size    int64   `json:"size"`
	Done    int64   `json:"done"`
	Down    int64   `json:"down"`
	Up      int64   `json:"up"`
	Sent    int64   `json:"sent"`
	ETA     float64 `json:"eta,omitempty"`
	Sources int     `json:"sources"`
}

// topSection is a list on the screen.
type topSection int

const (
	sectionAll topSection = iota
	sectionFiles
	sectionPeers
)

// topUI is what the user has chosen to see.
type topUI struct {
	section  topSection
	sort     [3]int // by section
	filter   string
	typing   bool // the filter
	chosen   int
	detail   bool
	help     bool
	endless  bool // nothing is cut to the height, and no keys are named
	pageRows int  // how far a page goes
}

// The orders that s goes through.
var (
	fileOrders = []string{"name", "size", "holders", "newest"}
	peerOrders = []string{"name", "shares", "id"}
)

// key changes what is seen.
func (u topUI) key(key string) (next topUI, quit bool) {
	if u.typing {
		return u.typed(key), key == "ctrl-c"
	}
	switch key {
	case "q", "ctrl-c":
		return u, true
	case "?":
		u.help = !u.help
	case "esc":
		if !u.help && !u.detail {
			u.filter = ""
		}
		u.help, u.detail = false, false
	case "/":
		u.typing, u.detail, u.help, u.chosen = true, false, false, 0
	case "f":
		u = u.only(sectionFiles)
	case "p":
		u = u.only(sectionPeers)
	case "s":
		u.sort[u.section]++
	case "enter":
		u.detail, u.help = !u.detail, false
	case "up", "k":
		u.chosen--
	case "down", "j":
		u.chosen++
	case "pageup":
		u.chosen -= max(u.pageRows, 1)
	case "pagedown":
		u.chosen += max(u.pageRows, 1)
	case "home", "g":
		u.chosen = 0
	case "end", "G":
		u.chosen = 1 << 30
	}
	u.chosen = max(u.chosen, 0)
	return u, false
}

// only shows one list, or all again.
func (u topUI) only(s topSection) topUI {
	if u.section == s {
		s = sectionAll
	}
	u.section, u.chosen, u.detail, u.help = s, 0, false, false
	return u
}

func (u topUI) typed(key string) topUI {
	switch r, n := utf8.DecodeRuneInString(key); {
	case key == "enter":
		u.typing = false
	case key == "esc":
		u.typing, u.filter = false, ""
	case key == "backspace":
		_, last := utf8.DecodeLastRuneInString(u.filter)
		u.filter = u.filter[:len(u.filter)-last]
	case n == len(key) && unicode.IsPrint(r) && len(u.filter) < 100:
		u.filter += key
	}
	u.chosen = 0
	return u
}

func (u topUI) wants(names ...string) bool {
	return slices.ContainsFunc(names, func(s string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(u.filter)) })
}

// keep returns those that the filter lets through.
func keep[T any](all []T, wanted func(T) bool) (out []T) {
	for _, v := range all {
		if wanted(v) {
			out = append(out, v)
		}
	}
	return out
}

func (u topUI) files(s *topState) []topFile {
	out := keep(s.Files, func(f topFile) bool { return u.wants(f.Name, f.ID) })
	slices.SortStableFunc(out, func(a, b topFile) int {
		by := 0
		switch fileOrders[u.order(fileOrders)] {
		case "size":
			by = cmp.Compare(b.Size, a.Size)
		case "holders":
			by = cmp.Compare(b.Holders, a.Holders)
		case "newest":
			by = cmp.Compare(a.Age, b.Age)
		}
		return cmp.Or(by, cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func (u topUI) peers(s *topState) []topPeer {
	out := keep(s.Peers, func(p topPeer) bool { return u.wants(append(p.Addrs, p.Name, p.Peer)...) })
	order := "name"
	if u.section == sectionPeers {
		order = peerOrders[u.order(peerOrders)]
	}
	slices.SortStableFunc(out, func(a, b topPeer) int {
		by := 0
		switch order {
		case "shares":
			by = cmp.Compare(b.Shares, a.Shares)
		case "name":
			by = cmp.Compare(a.Name, b.Name)
		}
		return cmp.Or(by, cmp.Compare(a.Peer, b.Peer))
	})
	return out
}

func (u topUI) order(orders []string) int { return u.sort[u.section] % len(orders) }

// lines draws all of it.
func (u *topUI) lines(s *topState, k look) []line {
	head := topHead(s, k)
	if u.help {
		return u.page(k, head, topHelp)
	}
	files, peers := u.files(s), u.peers(s)
	n := len(files)
	if u.section == sectionPeers {
		n = len(peers)
	}
	u.chosen = max(min(u.chosen, n-1), 0)
	if u.detail && n > 0 {
		if u.section == sectionPeers {
			return u.page(k, head, peerDetail(peers[u.chosen], k))
		}
		return u.page(k, head, fileDetail(files[u.chosen], s, k))
	}
	room := k.height - len(head) - 1
	if u.endless {
		room = 1 << 20
	}
	body := []line{}
	here := keep(s.Transfers, func(t topTransfer) bool { return u.wants(t.Name) })
	if u.section == sectionAll && len(here) > 0 {
		body = append(u.transferLines(here, k, max(room/3, 3)), line{})
	}
	if u.section != sectionPeers {
		rows := room - len(body)
		if u.section == sectionAll {
			rows = max(rows-min(len(peers)+3, rows/2), 3)
		}
		body = append(body, u.fileLines(files, s, k, rows)...)
	}
	if u.section == sectionAll {
		body = append(body, line{})
	}
	if u.section != sectionFiles {
		body = append(body, u.peerLines(peers, s, k, max(room-len(body), 3))...)
	}
	return u.page(k, head, body)
}

// page puts the keys below a body.
func (u *topUI) page(k look, head, body []line) []line {
	out := append(head, body...)
	if u.endless {
		return out
	}
	for len(out) < k.height-1 {
		out = append(out, line{})
	}
	out = out[:max(k.height-1, 1)]
	if u.typing {
		return append(out, line{{"/" + k.name(u.filter, k.width-2), bold}, {k.sign("▏", "_"), plain}})
	}
	keys := "/ filter  f files  p peers  s sort  enter details  ? help  q quit"
	switch {
	case u.filter != "":
		keys = "only " + k.name(u.filter, max(k.width-28, 8)) + "  esc all  ? help  q quit"
	case cellsOf(keys) > k.width:
		keys = "/ f p s enter  ? help  q quit"
	}
	return append(out, line{{k.fit(keys, k.width), dim}})
}

// begin is the first characters of an id.
func begin(id string, n int) string { return id[:min(len(id), n)] }

func topHead(s *topState, k look) []line {
	facts := []span{{"shoal top", bold}, {"swarm " + begin(s.Swarm, 8), plain}}
	switch {
	case s.problem != "":
		facts = append(facts, span{s.problem, warn})
	case !s.Reachable:
		facts = append(facts, span{"server not reachable, on this network alone", warn})
	default:
		facts = append(facts, span{"server " + strings.Join(s.Servers[:min(len(s.Servers), 1)], "") + " up " + age(uint64(max(s.Up, 0))), plain})
	}
	if s.Running {
		facts = append(facts, span{"via the peer here", dim})
	}
	return append(flow(k, "", facts), line{})
}

// section is the title of a list: how many there are, and how they are ordered.
func section(title string, shown, all int, order string) string {
	text := fmt.Sprintf("%s %d", title, all)
	if shown != all {
		text = fmt.Sprintf("%s %d of %d", title, shown, all)
	}
	if order != "" && order != "name" {
		text += " by " + order
	}
	return text
}

// window returns which rows are seen, so that the chosen one is among them.
func window(n, chosen, room int) (from, to int) {
	room = max(room, 1)
	from = max(0, min(chosen-room/2, n-room))
	return from, min(n, from+room)
}

func (u *topUI) fileLines(files []topFile, s *topState, k look, room int) []line {
	from, to := window(len(files), u.chosen, room-1)
	u.pageRows = to - from
	here := make(map[string]topTransfer, len(s.Transfers))
	for _, t := range s.Transfers {
		here[t.ID] = t
	}
	rows := make([][]span, 0, to-from)
	for _, f := range files[from:to] {
		part := ""
		if t, is := here[f.ID]; is {
			part = t.has()
		}
		rows = append(rows, []span{
			{k.name(f.shown(), 200), plain},
			{size(f.Size), plain},
			{part, accent},
			{holders(f), plain},
			{age(f.Age), dim},
			{begin(f.By, 10), dim},
		})
	}
	mark := u.chosen - from
	if u.endless {
		mark = -1
	}
	head, body := table(k, []column{
		{title: section("FILES", len(files), len(s.Files), fileOrders[u.order(fileOrders)]), cells: 14, takes: true},
		{title: "SIZE", cells: 10, right: true},
		{title: "HERE", cells: 4, right: true, rank: 1},
		{title: "HOLDERS", cells: 16, rank: 2},
		{title: "SINCE", cells: 7, rank: 3},
		{title: "BY", cells: 10, rank: 4},
	}, rows, mark)
	switch {
	case len(s.Files) == 0:
		body = []line{{{"  nobody shares anything:  shoal share FILE", dim}}}
	case len(files) == 0:
		body = noMatch
	}
	return append([]line{head}, body...)
}

// holders says how many have all of a file, and how many a part.
func holders(f topFile) string {
	full := min(f.Seeds, f.Holders)
	if part := f.Holders - full; part > 0 {
		return fmt.Sprintf("%d full %d part", full, part)
	}
	return fmt.Sprintf("%d full", full)
}

func (u *topUI) peerLines(peers []topPeer, s *topState, k look, room int) []line {
	chosen, mark := 0, -1
	if u.section == sectionPeers {
		chosen = u.chosen
	}
	from, to := window(len(peers), chosen, room-1)
	order := "name"
	if u.section == sectionPeers {
		u.pageRows = to - from
		order = peerOrders[u.order(peerOrders)]
		if !u.endless {
			mark = chosen - from
		}
	}
	rows := make([][]span, 0, to-from)
	for _, p := range peers[from:to] {
		name, role := k.name(p.Name, 200), p.Role
		if p.Self {
			name += " (this machine)"
		}
		if p.Protocol == "classic" {
			role, name = "classic", "-"
		}
		rows = append(rows, []span{
			{name, plain},
			{begin(p.Peer, 10), plain},
			{role, dim},
			{strings.Join(p.Addrs[:min(len(p.Addrs), 1)], ""), plain},
			{fmt.Sprint(p.Shares), plain},
		})
	}
	title := section("PEERS", len(peers), len(s.Peers), order)
	if s.joined+s.left > 0 {
		title += fmt.Sprintf("  +%d -%d/min", s.joined, s.left)
	}
	head, body := table(k, []column{
		{title: title, cells: 14, takes: true},
		{title: "ID", cells: 10, rank: 2},
		{title: "ROLE", cells: 7, rank: 3},
		{title: "ADDRESS", cells: 21, rank: 1},
		{title: "SHARES", cells: 6, right: true, rank: 2},
	}, rows, mark)
	switch {
	case len(s.Peers) == 0:
		body = []line{{{"  nobody else is here:  shoal link  lets others in", dim}}}
	case len(peers) == 0:
		body = noMatch
	}
	return append([]line{head}, body...)
}

func (u *topUI) transferLines(all []topTransfer, k look, room int) []line {
	slices.SortStableFunc(all, func(a, b topTransfer) int { // what moves first
		return cmp.Or(cmp.Compare(b.moves(), a.moves()), cmp.Compare(a.Name, b.Name))
	})
	shown := all[:min(len(all), room-1)]
	rows := make([][]span, 0, len(shown))
	for _, t := range shown {
		eta := ""
		if t.ETA > 0 {
			eta = seconds(time.Duration(t.ETA * float64(time.Second)))
		}
		from := ""
		if t.Sources > 0 {
			from = fmt.Sprint(t.Sources)
		}
		rows = append(rows, []span{
			{k.name(t.Name, 200), plain},
			{t.State, stateShade(t.State)},
			{t.has(), bold},
			{perSecond(k, float64(t.Down)), plain},
			{perSecond(k, float64(t.Up)), plain},
			{eta, plain},
			{from, plain},
		})
	}
	head, body := table(k, []column{
		{title: section("THIS MACHINE", len(shown), len(all), ""), cells: 14, takes: true},
		{title: "STATE", cells: 11, rank: 2},
		{title: "HAS", cells: 4, right: true},
		{title: "DOWN", cells: 11, right: true, rank: 1},
		{title: "UP", cells: 11, right: true, rank: 2},
		{title: "ETA", cells: 7, right: true, rank: 3},
		{title: "SOURCES", cells: 7, right: true, rank: 4},
	}, rows, -1)
	return append([]line{head}, body...)
}

// has says how much of it is here; nothing while its size is not known.
func (t topTransfer) has() string {
	if t.Size <= 0 && t.Done == 0 && t.State == string(daemon.Waiting) {
		return ""
	}
	return fmt.Sprintf("%d%%", percentage(t.Done, t.Size))
}

// moves says how much attention a transfer wants.
func (t topTransfer) moves() int {
	switch {
	case t.State == string(daemon.Failed) || t.State == string(daemon.Changed):
		return 3
	case t.Kind == "get" && t.Done < t.Size:
		return 2
	case t.Up > 0:
		return 1
	}
	return 0
}

func stateShade(state string) shade {
	switch daemon.State(state) {
	case daemon.Failed, daemon.Changed:
		return bad
	case daemon.Waiting, daemon.Paused:
		return warn
	case daemon.Complete, daemon.Seeding:
		return good
	}
	return plain
}

// pair is a line of details.
func pair(k look, title, text string) line {
	return line{{padRight("  "+title, 12), dim}, {k.fit(text, max(k.width-12, 1)), plain}}
}

func fileDetail(f topFile, s *topState, k look) []line {
	out := []line{
		{{k.quoted(f.shown(), k.width), bold}},
		{},
		pair(k, "size", size(f.Size)),
		pair(k, "id", f.ID),
		pair(k, "holders", holders(f)),
		pair(k, "shared", age(f.Age)+" ago, by "+begin(f.By, 10)),
	}
	for _, t := range s.Transfers {
		if t.ID == f.ID {
			out = append(out, pair(k, "here", fmt.Sprintf("%s, %d%%, %s/s down, %s/s up, %s given", t.State, percentage(t.Done, t.Size), size(t.Down), size(t.Up), size(t.Sent))))
			out = append(out, append(line{{padRight("", 12), plain}}, bar(k, min(max(k.width-12, 4), 60), float64(t.Done)/float64(max(t.Size, 1)))...))
		}
	}
	return append(out, line{}, pair(k, "get it", "shoal get "+shellQuote(f.Name)))
}

func peerDetail(p topPeer, k look) []line {
	out := []line{
		{{k.quoted(p.Name, k.width), bold}},
		{},
		pair(k, "id", p.Peer),
		pair(k, "role", p.Role),
		pair(k, "protocol", p.Protocol),
		pair(k, "shares", fmt.Sprint(p.Shares)),
	}
	for i, a := range p.Addrs {
		out = append(out, pair(k, title(i, "addresses"), a))
	}
	return out
}

var noMatch = []line{{{"  none that fits the filter", dim}}}

var topHelp = []line{
	textLine("  /            show only what has a text in its name"),
	textLine("  f            only files, or all again"),
	textLine("  p            only peers, or all again"),
	textLine("  s            another order"),
	textLine("  up down j k  choose; home, end, page up, page down"),
	textLine("  enter        all of what is chosen"),
	textLine("  esc          back"),
	textLine("  q            quit"),
	{},
	textLine("  full: holders that have all of a file"),
	textLine("  part: those that are getting it, and give"),
}
