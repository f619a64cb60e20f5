package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"shoal/internal/classic"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/store"
	"shoal/internal/wire"

	"github.com/spf13/cobra"
)

const (
	// What is looked at must answer within that; a server that is on the way for longer would not be of use either.
	doctorTime = 15 * time.Second
	// portTime bounds the look whether anything listens at an address.
	portTime = 3 * time.Second
	// lowSpace is how little free space is worth a word, fewFiles how few open files are, skewed how far apart clocks are.
	lowSpace = 1 << 30
	fewFiles = 1024
	skewed   = time.Minute
)

// The levels of what a doctor finds.
const (
	allWell   = "ok"
	worthNote = "note"
	isProblem = "problem"
)

// finding is one thing that the doctor has looked at.
type finding struct {
	V     int    `json:"v"`
	T     string `json:"t"`
	Check string `json:"check"` // what was looked at: state, disk, files, port, server, clock, reach, version
	Level string `json:"level"` // ok, note, problem
	Code  string `json:"code,omitempty"`
	Text  string `json:"text"`
	Cause string `json:"cause,omitempty"`
	Next  string `json:"next,omitempty"`
}

// doctor looks for reasons why it does not work.
type doctor struct {
	e        *env
	dir      string
	p        peerFlags
	problems []*failure
}

func newDoctor(e *env) *cobra.Command {
	d := &doctor{e: e}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out why it does not work",
		Long: `Look at what a swarm needs, and say in words what is wrong: the state folder, the disk, how many files may be open, the port, the swarm
server, whether others can connect to this machine (the server tries), the clocks, and the versions that are there.

The exit status is 0 if nothing is wrong, though something may be worth a note; otherwise that of the first problem.`,
		Example: "  shoal doctor\n  shoal doctor --server 10.0.0.5:50001\n  shoal doctor --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&d.p.listen, "listen", "", "the port to look at, ADDR:PORT (default: that of the running peer, or the one that share and get take)")
	cmd.Flags().StringVarP(&d.dir, "output", "o", ".", "the folder into which files are to be downloaded")
	return cmd
}

func (d *doctor) run(ctx context.Context) error {
	all, err := d.e.swarms()
	if err != nil {
		d.fail("state", err)
	} else {
		d.state(all)
	}
	d.disk()
	d.files()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(len(all)+1)*doctorTime)
	defer cancel()
	if len(all) == 0 && d.e.server != defaultServer {
		d.stranger(ctx, d.e.server)
	}
	for _, sw := range all {
		d.swarm(ctx, sw)
	}
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	if len(d.problems) == 0 {
		return nil
	}
	f := *d.problems[0]
	if more := len(d.problems) - 1; more > 0 {
		f.Cause = strings.TrimPrefix(fmt.Sprintf("%s; and %d more problems, see above", f.Cause, more), "; ")
	}
	return &f
}

// say tells of a finding.
func (d *doctor) say(f finding) {
	f.V, f.T = 1, "finding"
	if d.e.json {
		printJSON(d.e.stdout, f)
		return
	}
	if d.e.quiet {
		return
	}
	fmt.Fprintf(d.e.stdout, "%-7s  %-7s  %s\n", f.Level, f.Check, f.Text)
	for _, line := range []struct{ label, text string }{{"cause:", f.Cause}, {"next: ", f.Next}} {
		if line.text != "" {
			fmt.Fprintf(d.e.stdout, "                  %s %s\n", line.label, line.text)
		}
	}
}

func (d *doctor) well(check, format string, args ...any) {
	d.say(finding{Check: check, Level: allWell, Text: oneLine(fmt.Sprintf(format, args...))})
}

// fail tells of a problem.
func (d *doctor) fail(check string, err error) {
	f := explain(err)
	d.problems = append(d.problems, f)
	d.say(finding{Check: check, Level: isProblem, Code: f.Code, Text: f.What, Cause: f.Cause, Next: f.Next})
}

// state tells of the swarms that this machine is in.
func (d *doctor) state(all []*identity.Swarm) {
	if err := writable(d.e.state); err != nil && len(all) > 0 {
		d.fail("state", err)
		return
	}
	if len(all) == 0 {
		d.say(finding{
			Check: "state", Level: worthNote, Code: errNoSwarm.Code, Text: "this machine is in no swarm (" + printable(d.e.state) + ")", Cause: errNoSwarm.Cause, Next: errNoSwarm.Next,
		})
		return
	}
	d.well("state", "this machine is in %s (%s)", count(len(all), "swarm"), printable(d.e.state))
}

// writable says why nothing can be written in a folder.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".shoal-doctor-")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// disk looks at where files are to go.
func (d *doctor) disk() {
	if err := writable(d.dir); err != nil {
		d.fail("disk", noFolder(err, d.dir))
		return
	}
	free, err := freeSpace(d.dir)
	switch {
	case err != nil:
		d.fail("disk", err)
	case free == 0:
		d.fail("disk", &failure{Code: "E-NO-SPACE", Exit: exitSpace, Retryable: true, What: "the disk of " + printable(d.dir) + " is full", Next: "free some space, or choose another place with  -o PATH"})
	case free < lowSpace:
		d.say(finding{
			Check: "disk", Level: worthNote, Code: "E-NO-SPACE", Text: fmt.Sprintf("%s has %s free", printable(d.dir), size(free)), Next: "shoal get -o PATH NAME    puts files elsewhere",
		})
	case free == math.MaxInt64:
		d.well("disk", "%s can be written to; its file system does not say how much is free", printable(d.dir))
	default:
		d.well("disk", "%s can be written to and has %s free", printable(d.dir), size(free))
	}
}

// freeSpace returns how many bytes can still be written in a folder.
func freeSpace(dir string) (int64, error) {
	f, err := store.System().OpenFolder(dir)
	if err != nil {
		return 0, err
	}
	free, err := f.Free()
	return free, errors.Join(err, f.Close())
}

// files looks at how many files and connections may be open.
func (d *doctor) files() {
	switch n := node.OpenFiles(); {
	case n == 0:
	case n < fewFiles:
		d.say(finding{
			Check: "files", Level: worthNote, Text: fmt.Sprintf("only %d files and connections may be open at once", n), Cause: "in a large swarm a peer has some hundred",
			Next: "ulimit -n 65536    before shoal, or LimitNOFILE= in its unit",
		})
	default:
		d.well("files", "%d files and connections may be open at once", n)
	}
}

// stranger looks at a server of a swarm that this machine is not in.
func (d *doctor) stranger(ctx context.Context, server string) {
	addr, err := hostPort(server, classic.DefaultPort)
	if err != nil {
		d.fail("server", &usageError{"--server: " + err.Error()})
		return
	}
	if err := knock(ctx, addr); err != nil {
		d.noServer(ctx, nil, &node.ServerError{Server: addr, Err: err})
		return
	}
	if !node.ServerAt(ctx, addr) {
		d.fail("server", notSecure(ctx, d.e, addr))
		return
	}
	d.well("server", "a Shoal server answers at %s; what it says is for those who have joined", addr)
}

// knock connects to an address, and hangs up.
func knock(ctx context.Context, addr string) error {
	dialer := net.Dialer{Timeout: portTime}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// noServer tells of a server that cannot be reached, and looks whether it is on the usual port.
func (d *doctor) noServer(ctx context.Context, sw *identity.Swarm, err error) {
	f := explain(closer(ctx, d.e, err))
	var server *node.ServerError
	if errors.As(err, &server) && f.Code == "E-NO-SERVER" {
		f.Next = "on that machine  shoal server    starts it; or name another with  --server HOST:PORT"
		for _, addr := range strings.Split(server.Server, ",") {
			host, port, splitErr := net.SplitHostPort(addr)
			usual := net.JoinHostPort(host, strconv.Itoa(classic.DefaultPort))
			if splitErr != nil || port == strconv.Itoa(classic.DefaultPort) || !node.ServerAt(ctx, usual) {
				continue
			}
			f.Cause = oneLine(f.Cause + "; but a Shoal server answers at " + usual + ": the port is wrong")
			f.Next = "shoal doctor --server " + shellQuote(usual)
			break
		}
	}
	if sw != nil {
		f.What += " of the swarm " + sw.ID().String()[:8]
	}
	d.fail("server", f)
}

// swarm looks at one swarm from inside.
func (d *doctor) swarm(ctx context.Context, sw *identity.Swarm) {
	e := *d.e
	e.noLAN = true // it is the server that is looked for
	p := d.p
	p.asks = true
	if c := d.e.peerHere(ctx); c != nil && p.listen == "" {
		if port, err := strconv.ParseUint(strings.TrimPrefix(c.addr(ctx, sw.ID().String()), ":"), 10, 16); err == nil && port != 0 {
			p.listen, p.announce = ":0", uint16(port)
			d.well("port", "the peer of this machine serves others on port %d", port)
		}
	}
	m, err := p.member(&e, sw, slog.LevelError+4)
	if err != nil {
		d.fail("port", err)
		return
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	err = m.Run(ctx, func(ctx context.Context) error {
		if p.announce == 0 {
			d.port(m, p.listen)
		}
		hello := m.ServerHello()
		d.well("server", "the server of the swarm %s lets this machine in (%s), up %s", sw.ID().String()[:8], strings.Join(sw.Servers(), ", "), age(uint64(m.ServerAge().Seconds())))
		d.reach(ctx, m)
		d.versions(ctx, m, hello)
		return nil
	})
	var listen *node.ListenError
	switch {
	case err == nil:
	case errors.As(err, &listen):
		d.fail("port", err)
	case errors.Is(err, context.DeadlineExceeded):
		d.noServer(context.WithoutCancel(ctx), sw, &node.ServerError{Server: strings.Join(sw.Servers(), ","), Err: os.ErrDeadlineExceeded})
	default:
		d.noServer(ctx, sw, err)
	}
}

// port tells on which port a command serves others.
func (d *doctor) port(m *node.Member, asked string) {
	if asked == "" && m.Port() != node.DefaultPort {
		d.say(finding{
			Check: "port", Level: worthNote, Text: fmt.Sprintf("port %d is taken: commands serve others on any free one, just now on %d", node.DefaultPort, m.Port()),
			Cause: "a firewall that lets only one port through stops that", Next: "choose one with  --listen ADDR:PORT",
		})
		return
	}
	d.well("port", "commands serve others on port %d", m.Port())
}

// reach tells whether others can connect, and how the clocks differ.
func (d *doctor) reach(ctx context.Context, m *node.Member) {
	r, err := m.Reach(ctx)
	if err != nil {
		text := "the server does not say whether others can connect to this machine"
		d.say(finding{Check: "reach", Level: worthNote, Text: text, Cause: oneLine(err.Error()), Next: "shoal version    on both machines; use the newer everywhere"})
		return
	}
	switch {
	case r.Closed():
		d.fail("reach", closed(m.Port(), r))
	case r.Way == wire.WayElsewhere:
		d.say(finding{
			Check: "reach", Level: worthNote, Text: "this machine comes to the server from " + r.From + ", which is none of its own addresses", Cause: "a router in between translates addresses: others connect only if it forwards the port",
			Next: "shoal get --listen ADDR:PORT NAME    with a port that is forwarded to this machine",
		})
	case r.Way == wire.WayLimit:
		d.say(finding{Check: "reach", Level: worthNote, Text: "the server has too much to do to look whether others can connect", Next: "shoal doctor    again in ten seconds"})
	default:
		d.well("reach", "others can connect to this machine at %s", r.Addr)
	}
	if r.Skew.Abs() > skewed {
		ahead := "ahead of"
		if r.Skew < 0 {
			ahead = "behind"
		}
		d.say(finding{
			Check: "clock", Level: worthNote, Text: fmt.Sprintf("the server's clock is %s %s this machine's", seconds(r.Skew.Abs()), ahead),
			Cause: "the life of links is measured by the server's; nothing else depends on clocks", Next: "timedatectl set-ntp true    on the one that is wrong",
		})
		return
	}
	d.well("clock", "the server's clock and this machine's agree")
}

// closed is the failure of a machine to which nobody can connect.
func closed(port int, r node.Reach) *failure {
	why := map[wire.Way]string{
		wire.WayRefused: "the connection is refused: a firewall rejects it, or nothing listens there any more",
		wire.WaySilent:  "no answer comes: a firewall, here or on the way, drops the packets",
		wire.WayOther:   "another program, or another machine's peer, answers there",
	}
	return &failure{
		Code: "E-FIREWALL", Exit: exitUnreachable, Retryable: true, What: fmt.Sprintf("others cannot connect to this machine on port %d: downloading works, giving hardly", port),
		Cause: "the server tried " + r.Addr + ": " + why[r.Way], Next: fmt.Sprintf("open TCP port %d in the firewall, or choose one that is open:  shoal doctor --listen :PORT    tries it", port),
	}
}

// versions tells which versions are there.
func (d *doctor) versions(ctx context.Context, m *node.Member, server *wire.Hello) {
	there := map[string]int{}
	if who, err := m.Who(ctx, false); err == nil {
		for _, w := range who {
			if w.Agent != "" && w.ID != m.Self() {
				there[w.Agent]++
			}
		}
	}
	var others []string
	for name, n := range there {
		if name != agent() {
			others = append(others, fmt.Sprintf("%s on %d peers", name, n))
		}
	}
	slices.Sort(others)
	if server != nil && server.Agent != agent() {
		others = append([]string{"the server is " + server.Agent}, others...)
	}
	if len(others) == 0 {
		d.well("version", "all are %s", agent())
		return
	}
	d.say(finding{
		Check: "version", Level: worthNote, Text: oneLine("this machine is " + agent() + "; " + cut(strings.Join(others, ", "), 200)), Cause: "versions work together; what only the newer can do is not used",
		Next: "shoal version    on each tells more; use the newer everywhere",
	})
}

// closer looks once more at a server that did not answer as one of ours, so that it can be said what is there.
func closer(ctx context.Context, e *env, err error) error {
	var server *node.ServerError
	var op *net.OpError
	var dns *net.DNSError
	known := explain(err)
	if !errors.As(err, &server) || known.Code != "E-NO-SERVER" || errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial" || !node.IsHandshake(err) {
		return err
	}
	for _, addr := range strings.Split(server.Server, ",") {
		if knock(ctx, addr) == nil && !node.ServerAt(ctx, addr) {
			return notSecure(ctx, e, addr)
		}
	}
	return err
}

// notSecure is the failure of an address at which something answers that is none of our servers.
func notSecure(ctx context.Context, e *env, addr string) error {
	if node.ClassicAt(ctx, addr) {
		state := ""
		if only, err := e.onlyClassic(true); err != nil || !only { // a member of a swarm speaks to its servers alone
			state = "--state classic "
		}
		return &failure{
			Code: "E-DOWNGRADE", Exit: exitTrust, What: addr + " speaks only the unencrypted classic protocol", Cause: "swarms, links and joining need the encrypted one; it is never left silently",
			Next: "shoal peers --classic " + state + "--server " + shellQuote(addr) + "    if that is the server that is meant",
		}
	}
	return &failure{
		Code: "E-PROTOCOL", Exit: exitIncompatible, What: "what answers at " + addr + " is no Shoal server", Cause: "it does not speak the protocol: another program, or another port is meant",
		Next: "shoal doctor --server HOST:PORT    with the right one",
	}
}
