//go:build linux

// Command peer measures what a long-running peer with many shares costs.
//
//	go run ./bench/peer [-n 10000] [-size 65536] [-settle 20s] [-runs 5]
//
// Method. A swarm server and a peer are processes of their own; so many files lie in a folder that the peer watches. It is started
// once, so that all are hashed, and ended. Then, -runs times, it is started, and three moments are told: when it says that it runs,
// when its API says that all are shared, and when the server knows of all. After -settle, what it has resident (VmRSS), the most that
// it had (VmHWM), and its processor time in ten seconds in which nothing happens.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"shoal/bench/internal/lab"
)

type options struct {
	n, size, runs int
	settle        time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o options
	flag.IntVar(&o.n, "n", 10_000, "shared files")
	flag.IntVar(&o.size, "size", 64<<10, "bytes of each")
	flag.IntVar(&o.runs, "runs", 5, "starts that are measured")
	flag.DurationVar(&o.settle, "settle", 20*time.Second, "between the last share and the look at the memory")
	flag.Parse()
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

// bench is what all runs share.
type bench struct {
	options
	dir, path, state, folder string
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "shoal-bench-peer-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{o, dir, "", filepath.Join(dir, "state"), filepath.Join(dir, "files")}
	if b.path, err = lab.Build(ctx, dir); err != nil {
		return err
	}
	if err := b.files(); err != nil {
		return err
	}
	server, err := lab.Start(ctx, dir, b.path, "server", "--json", "--state", filepath.Join(dir, "server"), "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer server.Stop()
	e, err := server.Await("listening")
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, b.path, "join", "--state", b.state, e.Link).CombinedOutput(); err != nil {
		return fmt.Errorf("join: %w: %s", err, out)
	}
	fmt.Printf("%d files of %d bytes\n\n| | runs, s | shared, s | known, s | RSS, MiB | most, MiB | CPU of 10 idle s, s |\n| --- | --- | --- | --- | --- | --- | --- |\n", o.n, o.size)
	var rows [][]float64
	for i := range o.runs + 1 {
		row, err := b.once(ctx, i > 0)
		if err != nil {
			return err
		}
		name := "first: all are hashed"
		if i > 0 {
			name = strconv.Itoa(i)
			rows = append(rows, row)
		}
		print(name, row)
	}
	print("median", median(rows))
	return nil
}

func print(name string, row []float64) {
	fmt.Printf("| %s |", name)
	for _, v := range row {
		fmt.Printf(" %.2f |", v)
	}
	fmt.Println()
}

func median(rows [][]float64) []float64 {
	out := make([]float64, len(rows[0]))
	for c := range out {
		var col []float64
		for _, r := range rows {
			col = append(col, r[c])
		}
		slices.Sort(col)
		out[c] = col[len(col)/2]
	}
	return out
}

// files makes the files, each another.
func (b *bench) files() error {
	if err := os.Mkdir(b.folder, 0o700); err != nil {
		return err
	}
	old := time.Now().Add(-time.Hour)
	text := make([]byte, b.size)
	for i := range b.n {
		copy(text, strconv.Itoa(i))
		path := filepath.Join(b.folder, fmt.Sprintf("file-%06d.bin", i))
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
		if err := os.Chtimes(path, old, old); err != nil {
			return err
		}
	}
	return nil
}

// once starts the peer, and returns the row of the table.
func (b *bench) once(ctx context.Context, settle bool) ([]float64, error) {
	began := time.Now()
	p, err := lab.Start(ctx, b.dir, b.path, "peer", "--json", "-q", "--state", b.state, "--web", "", "--listen", "127.0.0.1:0", "--folder", b.folder, "--config", os.DevNull)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	if _, err := p.Await("running"); err != nil {
		return nil, err
	}
	row := []float64{time.Since(began).Seconds()}
	api := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(b.state, "control.sock"))
	}}}
	defer api.CloseIdleConnections()
	for _, what := range []func() (int, error){
		func() (int, error) { return b.seeding(ctx, api) }, func() (int, error) { return b.known(ctx, api) },
	} {
		for {
			n, err := what()
			if err != nil {
				return nil, err
			}
			if n == b.n {
				break
			}
			if time.Since(began) > 10*time.Minute {
				return nil, fmt.Errorf("%d of %d after ten minutes", n, b.n)
			}
			time.Sleep(20 * time.Millisecond)
		}
		row = append(row, time.Since(began).Seconds())
	}
	if settle {
		time.Sleep(b.settle)
	}
	now, most, err := memory(p.PID())
	if err != nil {
		return nil, err
	}
	before, err := cpu(p.PID())
	if err != nil {
		return nil, err
	}
	if settle {
		time.Sleep(10 * time.Second)
	}
	after, err := cpu(p.PID())
	return append(row, now, most, after-before), err
}

func get(ctx context.Context, api *http.Client, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://shoal"+path, nil)
	if err != nil {
		return err
	}
	resp, err := api.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil // it is not in the swarm yet
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// seeding returns how many files the peer gives.
func (b *bench) seeding(ctx context.Context, api *http.Client) (int, error) {
	var st struct{ States map[string]int }
	err := get(ctx, api, "/api/v1/status", &st)
	return st.States["seeding"], err
}

// known returns how many files the server knows of.
func (b *bench) known(ctx context.Context, api *http.Client) (int, error) {
	var swarms struct{ Swarms []struct{ ID string } }
	if err := get(ctx, api, "/api/v1/swarms", &swarms); err != nil || len(swarms.Swarms) == 0 {
		return 0, errors.Join(err, errors.New("the peer is in no swarm"))
	}
	var files struct{ Total int }
	err := get(ctx, api, "/api/v1/swarms/"+swarms.Swarms[0].ID+"/files?limit=1", &files)
	return files.Total, err
}

// memory returns what a process has resident, and the most that it had, in MiB.
func memory(pid int) (now, most float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "VmRSS:":
			now = kib / 1024
		case "VmHWM:":
			most = kib / 1024
		}
	}
	return now, most, err
}

// cpu returns the processor time that a process has used, in seconds.
func cpu(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100, nil
}
