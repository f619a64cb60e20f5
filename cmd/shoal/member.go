package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"shoal/internal/classic"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/store"
	"shoal/internal/swarm"
	"shoal/internal/wire"

	"github.com/spf13/cobra"
)

// notMember is what a machine is told that is in no swarm and wants something of one.
var errNoSwarm = &failure{
	Code: "E-NOT-MEMBER", Exit: exitTrust, What: "this machine is in no swarm",
	Cause: "a swarm is joined with the link that  shoal share  or  shoal link  prints on a machine that is in it",
	Next:  "shoal get LINK    or  shoal join LINK    to join one; shoal share FILE    to start one",
}

// defaultState returns the folder in which a machine keeps its swarms.
func defaultState() string {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "shoal")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "shoal-"+strconv.Itoa(os.Getuid()))
	}
	if runtime.GOOS == "windows" {
		return filepath.Join(home, "AppData", "Local", "shoal")
	}
	return filepath.Join(home, ".local", "state", "shoal")
}

func (e *env) states() (*identity.States, error) { return identity.OpenStates(e.state) }

// swarms returns the swarms of this machine that --swarm allows.
func (e *env) swarms() ([]*identity.Swarm, error) {
	states, err := e.states()
	if err != nil {
		return nil, err
	}
	all, err := states.List()
	if err != nil || e.swarm == "" {
		return all, err
	}
	var out []*identity.Swarm
	for _, s := range all {
		if strings.HasPrefix(s.ID().String(), e.swarm) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, &usageError{"--swarm: this machine is in no swarm whose id begins with " + quote(e.swarm)}
	}
	return out, nil
}

// pick returns the one swarm that a command is about: nil if this machine is in none.
func (e *env) pick() (*identity.Swarm, error) {
	all, err := e.swarms()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if len(all) > 1 {
		var ids []string
		for _, s := range all {
			ids = append(ids, s.ID().String()[:8]+" ("+strings.Join(s.Servers(), ",")+")")
		}
		return nil, &failure{
			Code: "E-USAGE", Exit: exitUsage, What: fmt.Sprintf("this machine is in %d swarms", len(all)),
			Cause: strings.Join(ids, ", "), Next: "choose one with  --swarm " + all[0].ID().String()[:8],
		}
	}
	return all[0], nil
}

// need is pick for commands that cannot do without a swarm.
func (e *env) need() (*identity.Swarm, error) {
	sw, err := e.pick()
	if err == nil && sw == nil {
		return nil, errNoSwarm
	}
	return sw, err
}

func machineName() string {
	name, err := os.Hostname()
	if err != nil || len(name) > 64 {
		return ""
	}
	return name
}

func agent() string { return "shoal/" + cut(version, 40) }

// member makes a member of a swarm as the flags say. With --classic it is a peer of the classic swarm too.
func (p *peerFlags) member(e *env, sw *identity.Swarm, level slog.Level) (*node.Member, error) {
	cfg := node.MemberConfig{
		Swarm: sw, Name: machineName(), Agent: agent(), Log: e.log(level), Cache: store.OpenCache(filepath.Join(e.state, "hashes")),
		Warn:    func(text string) { e.screen.printf("warning: %s\n", oneLine(text)) },
		LimitUp: int64(p.limits.up), LimitDown: int64(p.limits.down),
		LimitPeerUp: int64(p.limits.peerUp), LimitPeerDown: int64(p.limits.peerDown), Announce: p.announce,
	}
	if p.tells {
		cfg.Offences = e.log(slog.LevelError)
	}
	if !p.asks {
		cfg.Closed = func(port int) { e.note(closedNote(port)) }
	}
	switch {
	case e.noLAN:
	case p.asks:
		cfg.LAN = node.LANLook
	default:
		cfg.LAN = node.LANFull
	}
	if e.server != defaultServer {
		addr, err := identity.CheckServer(e.server)
		if err != nil {
			return nil, &usageError{"--server: " + err.Error()}
		}
		cfg.Servers = []string{addr}
	}
	if p.listen != "" {
		addr, err := hostPort(p.listen, node.DefaultPort)
		if err != nil {
			return nil, &usageError{"--listen: " + err.Error()}
		}
		cfg.Listen = addr
	}
	if len(p.site) > wire.MaxAgent || !utf8.ValidString(p.site) {
		return nil, &usageError{fmt.Sprintf("--site: at most %d bytes of UTF-8", wire.MaxAgent)}
	}
	cfg.Site = p.site
	if p.classic {
		servers := cfg.Servers
		if len(servers) == 0 {
			servers = sw.Servers()
		}
		if len(servers) == 0 {
			return nil, &usageError{"--classic wants a swarm server: name it with --server HOST:PORT"}
		}
		cfg.Classic = &node.Config{Server: servers[0], Log: e.log(level)}
	}
	return node.NewMember(cfg), nil
}

// note tells of something that is no failure.
func (e *env) note(text string) {
	if e.json {
		printJSON(e.stdout, jsonNote{1, "note", text})
	} else if !e.quiet {
		fmt.Fprintln(e.screen, e.screen.hang("note: ", "  ", oneLine(text)))
	}
}

// closedNote says that others cannot connect.
func closedNote(port int) string {
	return fmt.Sprintf("others cannot connect to this machine on port %d (a firewall?): downloading works, giving hardly. Look closer with  shoal doctor", port)
}

// onlyClassic says whether a command with --classic is a peer of a classic swarm alone: this machine is in no other.
func (e *env) onlyClassic(classic bool) (bool, error) {
	if !classic {
		return false, nil
	}
	all, err := e.swarms()
	if err != nil {
		return false, err
	}
	return len(all) == 0, nil
}

// inSwarm runs body as a member that only asks: it listens on any port.
func (e *env) inSwarm(ctx context.Context, p peerFlags, body func(ctx context.Context, m *node.Member) error) error {
	sw, err := e.need()
	if err != nil {
		return err
	}
	if p.listen == "" {
		p.listen = ":0"
	}
	p.asks = true
	m, err := p.member(e, sw, slog.LevelWarn)
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Run(ctx, func(ctx context.Context) error { return body(ctx, m) })
}

// serverHost is a swarm server on this machine.
type serverHost struct {
	server *node.Server
	sw     *identity.Swarm
	ln     net.Listener
	lock   io.Closer
}

func (h *serverHost) serve(ctx context.Context) error {
	defer h.lock.Close()
	return h.server.Serve(ctx, h.ln)
}

func (h *serverHost) close() {
	h.ln.Close()
	h.lock.Close()
}

// openServer opens the port of a swarm's server, and keeps the addresses by which it can be reached.
func openServer(ctx context.Context, e *env, sw *identity.Swarm, listen, advertise string, classicConfig *swarm.ServerConfig, level slog.Level) (*serverHost, error) {
	addr, err := hostPort(listen, classic.DefaultPort)
	if err != nil {
		return nil, &usageError{"--listen: " + err.Error()}
	}
	lock, err := sw.Serving()
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		lock.Close()
		return nil, &node.ListenError{Addr: addr, Err: err}
	}
	addrs, err := serverAddrs(ln.Addr().(*net.TCPAddr), advertise)
	if err == nil {
		err = sw.SetServers(addrs)
	}
	if err != nil {
		ln.Close()
		lock.Close()
		return nil, err
	}
	s := node.NewServer(node.ServerConfig{Swarm: sw, Name: machineName(), Agent: agent(), Classic: classicConfig, LAN: !e.noLAN, Log: e.log(level)})
	return &serverHost{s, sw, ln, lock}, nil
}

// serverAddrs returns by which addresses others reach a server: those that the user names, the one that it listens on, or those of
// this machine's interfaces.
func serverAddrs(ln *net.TCPAddr, advertise string) (out []string, err error) {
	port := strconv.Itoa(ln.Port)
	if advertise != "" {
		for _, s := range strings.Split(advertise, ",") {
			host := s
			if _, _, err := net.SplitHostPort(s); err != nil {
				host = net.JoinHostPort(strings.Trim(s, "[]"), port)
			}
			addr, err := identity.CheckServer(host)
			if err != nil {
				return nil, &usageError{"--advertise: " + err.Error()}
			}
			out = append(out, addr)
		}
		return out, nil
	}
	if !ln.IP.IsUnspecified() {
		return []string{ln.String()}, nil
	}
	own, _ := net.InterfaceAddrs()
	var six []string
	for _, a := range own {
		prefix, err := netip.ParsePrefix(a.String())
		ip := prefix.Addr().Unmap()
		if err != nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
			continue
		}
		if ip.Is4() {
			out = append(out, netip.AddrPortFrom(ip, uint16(ln.Port)).String())
		} else {
			six = append(six, netip.AddrPortFrom(ip, uint16(ln.Port)).String())
		}
	}
	out = append(out, six...)
	if len(out) == 0 {
		out = []string{net.JoinHostPort("127.0.0.1", port)}
	}
	return out[:min(len(out), 3)], nil
}

// hashing shows how the hashing of a file goes.
func hashing(e *env, path string) (count func(int64), stop func()) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, func() {}
	}
	return hashingOf(e, filepath.Base(path), fi.Size())
}

// hashingOf shows how the hashing of so many bytes goes.
func hashingOf(e *env, name string, total int64) (count func(int64), stop func()) {
	if e.quiet || e.json {
		return nil, func() {}
	}
	var done atomic.Int64
	began := time.Now()
	stop = e.screen.show(func() gauge {
		n := done.Load()
		rate := int64(float64(n) / max(time.Since(began).Seconds(), 0.001))
		return gauge{
			Label: "Hashing " + cut(quote(name), 24), Done: min(n, total), Total: max(total, 1),
			Short: size(rate) + "/s", Facts: fmt.Sprintf("%s/%s  %s/s", size(n), size(total), size(rate)),
		}
	})
	return func(n int64) { done.Add(n) }, stop
}

func addJoinFlags(cmd *cobra.Command, token *string) {
	cmd.Flags().StringVar(token, "link-file", "", "read the link from this file (-: standard input), so that it stays out of the list of processes")
}

// readLink returns a link from an argument or a file.
func readLink(e *env, arg, file string) (string, error) {
	if file == "" {
		return arg, nil
	}
	if arg != "" {
		return "", &usageError{"a link is given twice: as an argument and with --link-file"}
	}
	in := e.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	b := make([]byte, 4096)
	n := 0
	for n < len(b) {
		k, err := in.Read(b[n:])
		n += k
		if err != nil {
			break
		}
	}
	return strings.TrimSpace(string(b[:n])), nil
}

// enterSwarm joins the swarm of a link, unless this machine is in it.
func enterSwarm(ctx context.Context, e *env, link identity.Link) (*identity.Swarm, error) {
	states, err := e.states()
	if err != nil {
		return nil, err
	}
	_, before := states.Swarm(link.Swarm)
	sw, err := node.Join(ctx, states, link, machineName())
	if err != nil {
		return nil, err
	}
	if before != nil && !e.quiet && !e.json {
		e.screen.printf("Joined the swarm %s at %s\n", sw.ID().String()[:8], strings.Join(sw.Servers(), ", "))
	}
	return sw, nil
}
