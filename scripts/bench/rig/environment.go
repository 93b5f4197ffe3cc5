package rig

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Environment is what figures depend on, by name: the machine, and the versions and settings of what runs on it.
func (s *Servers) Environment(ctx context.Context) (map[string]string, error) {
	version, err := s.command(ctx, "postgres://", nil, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s version: %w (make build makes the aggregator)", s.binary, err)
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return nil, err
	}
	memory, err := s.proc.Meminfo()
	if err != nil {
		return nil, err
	}
	processors, err := s.proc.CPUInfo()
	if err != nil {
		return nil, err
	}
	postgres, err := s.Ask(ctx, "SHOW server_version")
	if err != nil {
		return nil, err
	}
	info, err := s.Client.InfoMap(ctx, "server").Result()
	return map[string]string{
		"processor":  fmt.Sprintf("%s, %d cores, shared by all", processors[0].ModelName, runtime.NumCPU()),
		"memory":     fmt.Sprintf("%.1f GiB", float64(*memory.MemTotalBytes)/(1<<30)),
		"kernel":     "Linux " + strings.TrimSpace(string(kernel)),
		"aggregator": strings.SplitN(string(version), "\n", 2)[0],
		"Redis":      info["Server"]["redis_version"] + ": `" + strings.Join(RedisSettings, "`, `") + "`",
		"PostgreSQL": postgres + ": `" + strings.Join(PostgresSettings, "`, `") + "`",
	}, err
}
