//go:build linux

package lab

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU returns the processor time, user and system, that a running process has used.
func CPU(pid int) (time.Duration, error) {
	// A process's clock has its number in the clock's: finer than the ticks of /proc. See clock_getcpuclockid(3).
	const schedClock = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedClock), &ts); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// OwnCPU returns the processor time that this process has used.
func OwnCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic("lab: " + err.Error()) // there is no other reason than wrong arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Usage is the memory of a running process, in bytes resident.
type Usage struct {
	Now, Peak int64
}

// Memory returns what a running process has resident, and had at most.
func Memory(pid int) (u Usage, err error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	if u.Now, err = kibField(path, "VmRSS"); err != nil {
		return u, err
	}
	u.Peak, err = kibField(path, "VmHWM")
	return u, err
}

// Kernel returns the memory that the kernel holds for its own objects, sockets among them, for the whole machine.
func Kernel() (int64, error) { return kibField("/proc/meminfo", "Slab") }

// Available returns the memory that could be taken without pushing anybody else's out.
func Available() (int64, error) { return kibField("/proc/meminfo", "MemAvailable") }

// kibField returns a field "Name:  123 kB" of a file, in bytes.
func kibField(path, name string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

// Busy returns the time that all processors together have not been idle since the machine started. What a measured
// process did not use of it, somebody else did.
func Busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	const idle, iowait, steal = 4, 5, 8 // guest time, which follows, is in user time already
	var ticks int64
	for i := 1; i <= steal; i++ {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		if i != idle && i != iowait {
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// Calm waits until the machine has nothing else to do: less than a twentieth of its processors busy for a second. After
// most it gives up, and says false: what is measured then is disturbed.
func Calm(ctx context.Context, most time.Duration) (calm bool, err error) {
	const window = time.Second
	for end := time.Now().Add(most); ; {
		before, err := Busy()
		if err != nil {
			return false, err
		}
		if err := Sleep(ctx, window); err != nil {
			return false, err
		}
		after, err := Busy()
		if err != nil {
			return false, err
		}
		if after-before < window*time.Duration(runtime.NumCPU())/20 {
			return true, nil
		}
		if time.Now().After(end) {
			return false, nil
		}
	}
}

// Sleep waits for d, or returns the error of ctx when that ends before.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
