// SPDX-License-Identifier: Apache-2.0

package nodecmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "weft/api/v1"
)

// Where systemd is.
const (
	systemdRuns = "/run/systemd/system" // there while systemd is the machine's first process
	unitPath    = "/etc/systemd/system/" + unitName
	unitName    = "weft-agent.service"

	packagedUnit = "/usr/lib/systemd/system/" + unitName // of the Debian package, for the folders that are the default
	ownUnit      = "# Written by 'weft node join'."      // how one that is ours begins
)

// unit runs an agent under systemd. Only the agent itself ends with it: what it started, a BGP speaker for one, goes on.
const unit = ownUnit + `
[Unit]
Description=weft agent
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
WatchdogSec=60
ExecStart=%s agent --config %s
Restart=always
RestartSec=1
KillMode=process
LimitMEMLOCK=infinity

[Install]
WantedBy=multi-user.target
`

func (j *joining) configFile() string { return filepath.Join(j.configDir, "agent.yaml") }
func (j *joining) logFile() string    { return filepath.Join(j.StateDir, "agent.log") }

// write writes configuration, authority and token, and forgets what the machine was before.
func (j *joining) write(ca []byte) error {
	config, err := j.Bytes()
	if err != nil {
		return err
	}
	for _, dir := range []string{j.configDir, j.StateDir, j.RunDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	for _, f := range []struct {
		path string
		data []byte
	}{{j.CA, ca}, {j.TokenFile, []byte(j.token + "\n")}, {j.configFile(), config}} {
		if err := replace(f.path, f.data); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	again := ""
	if _, err := os.Stat(filepath.Join(j.StateDir, "removed")); err == nil {
		again = "; the machine was a node before, and joins as a new one"
	}
	for _, name := range []string{"machine", "removed", "identity.pem"} { // the machine gets another identity: under the old one it may have been removed
		if err := os.Remove(filepath.Join(j.StateDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget what the machine was before: %w", err)
		}
	}
	j.tell("wrote %s%s", j.configFile(), again)
	return nil
}

// replace writes a file for its owner only, so that a reader sees the old one or the new one.
func replace(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// systemd reports whether the agent is to be a unit.
func (j *joining) systemd() bool {
	if j.service != "auto" {
		return j.service == "systemd"
	}
	_, err := os.Stat(systemdRuns)
	return err == nil
}

// start starts the agent, instead of the one that runs, if any.
func (j *joining) start(ctx context.Context, running *v1.AgentStatus) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	if j.systemd() {
		return j.startUnit(ctx, self)
	}
	if running != nil {
		if err := j.end(ctx, running.PID); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(j.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(self, "agent", "--config", j.configFile())
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	j.tell("agent started as process %d, log %s", cmd.Process.Pid, j.logFile())
	return cmd.Process.Release()
}

func (j *joining) startUnit(ctx context.Context, self string) error {
	if err := j.writeUnit(self); err != nil {
		return fmt.Errorf("write the agent's unit: %w", err)
	}
	for _, args := range [][]string{{"daemon-reload"}, {"enable", unitName}, {"restart", unitName}} {
		if out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
	}
	j.tell("agent started as %s", unitName)
	return nil
}

// writeUnit makes the unit, unless a package has brought one that fits; an own one would stand before it.
func (j *joining) writeUnit(self string) error {
	_, err := os.Stat(packagedUnit)
	if err != nil || j.configDir != "/etc/weft" || j.StateDir != "/var/lib/weft/agent" || j.RunDir != "/run/weft" {
		return replace(unitPath, fmt.Appendf(nil, unit, self, j.configFile()))
	}
	if text, err := os.ReadFile(unitPath); err == nil && strings.HasPrefix(string(text), ownUnit) {
		return os.Remove(unitPath)
	}
	return nil
}

// end ends the agent that runs, which is one that was removed, or cannot reach its server.
func (j *joining) end(ctx context.Context, pid int) error {
	if pid <= 1 {
		return errors.New("an agent runs here, and does not say as which process: end it first")
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end the agent that runs, process %d: %w", pid, err)
	}
	for {
		if _, err := j.agent.Status(ctx); err != nil && ctx.Err() == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end the agent that runs, process %d: %w", pid, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// logHint says where the agent's log is.
func (j *joining) logHint() string {
	if j.systemd() {
		return "journalctl -u " + unitName
	}
	return j.logFile()
}

// lastWords is the last line of the agent's log, if it is a file.
func (j *joining) lastWords() string {
	data, err := os.ReadFile(j.logFile())
	if err != nil || j.systemd() {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return "; it said last: " + lines[len(lines)-1]
}
