//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"shoal/bench/internal/lab"
)

// space is a network namespace. It goes with the process that keeps it, and that with this program: it has no name, so nothing of it can
// be left behind.
type space struct {
	keeper *lab.Process
}

func newSpace(ctx context.Context, dir string) (space, error) {
	p, err := lab.Start(ctx, dir, "unshare", "--net", "sh", "-c", `echo '{"t":"ready"}'; exec sleep infinity`)
	if err != nil {
		return space{}, err
	}
	if _, err := p.Await("ready"); err != nil {
		p.Stop()
		return space{}, fmt.Errorf("make a network namespace: %w", err)
	}
	return space{p}, nil
}

// within returns a command that runs another, which follows, in the namespace.
func (s space) within(command ...string) []string {
	return append([]string{"nsenter", "--target", strconv.Itoa(s.keeper.PID()), "--net"}, command...)
}

// run runs the lines of a script in the namespace.
func (s space) run(ctx context.Context, lines ...string) error {
	args := s.within("sh", "-ec", strings.Join(lines, "\n"))
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("set up the network: %w: %s", err, out)
	}
	return nil
}

func (s space) proc(file string) string { return fmt.Sprintf("/proc/%d/net/%s", s.keeper.PID(), file) }

// network is a switch with machines around it. Machine 0 is the source, the leechers follow, and the last one is the server, whose link
// has no limit.
type network struct {
	hub      space // of the switch, or both
	machines []space
}

// serverAddr is the server's address; machine i has 10.77.0.(i+1).
const serverAddr = "10.77.1.1"

// wire is what all links have in common.
type wire struct {
	mtu        int
	queue      time.Duration // how long a packet may wait for a link before it is dropped
	congestion string        // TCP's congestion control; empty: the machine's
}

// newNetwork joins machines with the given links, and one for the server, by one switch, or by two with a link between them. Each direction of a link is shaped where it enters the cable: the
// uplink at the machine's end, the downlink at that of the switch.
func newNetwork(ctx context.Context, dir string, links []link, w wire, between float64) (_ *network, err error) {
	n := &network{}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.hub, err = newSpace(ctx, dir); err != nil {
		return nil, err
	}
	if err = n.hub.run(ctx, quiet, fmt.Sprintf("ip link add hub type bridge mcast_snooping 0 && ip link set hub mtu %d up", w.mtu)); err != nil {
		return nil, err
	}
	if between > 0 {
		if err = n.hub.run(ctx, w.second(between)...); err != nil {
			return nil, err
		}
	}
	for i := range len(links) + 1 {
		s, err := newSpace(ctx, dir)
		if err != nil {
			return nil, err
		}
		n.machines = append(n.machines, s)
		addr, port := machineAddr(i), "port"+strconv.Itoa(i)
		hub := []string{
			fmt.Sprintf("ip link add %s mtu %d type veth peer name eth0 mtu %d netns %d", port, w.mtu, w.mtu, s.keeper.PID()),
			fmt.Sprintf("ip link set %s master %s up", port, switchOf(i, len(links), between)),
		}
		machine := []string{quiet, "ip link set lo up", "ip link set eth0 up"}
		if w.congestion != "" {
			machine = append(machine, "echo "+w.congestion+" > /proc/sys/net/ipv4/tcp_congestion_control")
		}
		if i < len(links) {
			hub = append(hub, w.shape(port, links[i].down))
			machine = append(machine, w.shape("eth0", links[i].up))
		} else {
			addr = serverAddr
		}
		machine = append(machine, "ip addr add "+addr+"/16 dev eth0")
		if err := errors.Join(n.hub.run(ctx, hub...), s.run(ctx, machine...)); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// quiet keeps IPv6 from talking of its own accord.
const quiet = "if [ -e /proc/sys/net/ipv6/conf/all/disable_ipv6 ]; then echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; fi"

// shape returns the command that limits what leaves an interface. What may go at once is 5 ms of the rate: less costs a timer for each packet.
func (w wire) shape(dev string, rate float64) string {
	burst := max(int(rate*0.005), 2*(w.mtu+14))
	limit := max(int(rate*w.queue.Seconds()), 10*(w.mtu+14))
	return fmt.Sprintf("tc qdisc add dev %s root tbf rate %.0fbit burst %d limit %d", dev, rate*8, burst, limit)
}

func (n *network) server() space { return n.machines[len(n.machines)-1] }

func (n *network) close() {
	for _, s := range n.machines {
		s.keeper.Stop()
	}
	if n.hub.keeper != nil {
		n.hub.keeper.Stop()
	}
}

// traffic is what a machine has sent and received since its network was made, as the switch counts it, frames of Ethernet and all.
type traffic struct {
	sent, received int64
	bursts         int64 // frames sent; but what the kernel has not cut into segments yet is one, with one header
}

// traffic returns the counters of all machines but the server.
func (n *network) traffic() ([]traffic, error) {
	b, err := os.ReadFile(n.hub.proc("dev"))
	if err != nil {
		return nil, err
	}
	return parseTraffic(string(b), len(n.machines)-1)
}

// parseTraffic reads the switch's table of interfaces: what it receives on a port, the machine has sent.
func parseTraffic(table string, machines int) ([]traffic, error) {
	const received, bursts, sent, columns = 0, 1, 8, 16
	out, seen := make([]traffic, machines), 0
	for line := range strings.Lines(table) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		number, isPort := strings.CutPrefix(name, "port")
		if !ok || !isPort {
			continue
		}
		i, err := strconv.Atoi(number)
		if err != nil || i >= machines {
			continue
		}
		f := strings.Fields(rest)
		if len(f) < columns {
			return nil, fmt.Errorf("the table of interfaces has the line %q", line)
		}
		up, err1 := strconv.ParseInt(f[received], 10, 64)
		down, err2 := strconv.ParseInt(f[sent], 10, 64)
		frames, err3 := strconv.ParseInt(f[bursts], 10, 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, err
		}
		out[i], seen = traffic{up, down, frames}, seen+1
	}
	if seen != machines {
		return nil, fmt.Errorf("the switch has %d of %d ports", seen, machines)
	}
	return out, nil
}

// segments is what TCP on a machine has sent: segments for the first time, and again.
type segments struct {
	out, again int64
}

// segments returns the counters of a machine.
func (s space) segments() (segments, error) {
	b, err := os.ReadFile(s.proc("snmp"))
	if err != nil {
		return segments{}, err
	}
	return parseSegments(string(b))
}

// parseSegments reads the counters of a network's protocols: a line of names and a line of values for each.
func parseSegments(table string) (s segments, err error) {
	var names []string
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i := 1; i < min(len(f), len(names)); i++ {
			v, err := strconv.ParseInt(f[i], 10, 64)
			if err != nil {
				return s, err
			}
			switch names[i] {
			case "OutSegs":
				s.out = v
			case "RetransSegs":
				s.again = v
			}
		}
		return s, nil
	}
	return s, errors.New("there are no counters of TCP")
}

// acknowledged returns the bytes that others have acknowledged to a machine on each connection that it has: what TCP has carried, without
// headers and whatever was sent again.
func (s space) acknowledged(ctx context.Context) (map[string]int64, error) {
	args := s.within("ss", "-tinHO", "state", "established")
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	return parseAcknowledged(string(out))
}

// parseAcknowledged reads a list of connections: a line each, with the addresses of both ends in the third and fourth place.
func parseAcknowledged(list string) (map[string]int64, error) {
	out := make(map[string]int64)
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		for _, field := range f {
			if number, ok := strings.CutPrefix(field, "bytes_acked:"); ok && len(f) > 4 {
				n, err := strconv.ParseInt(number, 10, 64)
				if err != nil {
					return nil, err
				}
				out[f[2]+" "+f[3]] = n
			}
		}
	}
	return out, nil
}
