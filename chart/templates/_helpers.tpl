{{/* What the two containers of a VM must agree about, and what only one of them reads. */}}
{{- define "berth.env" -}}
{{- $vm := .vm }}
{{- $net := $vm.netconfig | default dict }}
{{- $vnc := $net.vnc | default dict }}
{{- $rootfs := $vm.vmconfig.rootfs }}
{{- $cloud := $vm.cloudconfig | default dict }}
- {name: BERTH_NAME, value: {{ .name | quote }}}
- {name: HOSTNAME, value: {{ .name | quote }}}
- {name: BERTH_LOG, value: {{ .root.Values.log | quote }}}
- {name: IMG_VCPU, value: {{ int64 $vm.vmconfig.cpu.vcpu | quote }}}
- {name: IMG_RAM_MB, value: {{ int64 $vm.vmconfig.cpu.ram_mb | quote }}}
- {name: BERTH_ACCEL, value: {{ include "berth.accel" . | quote }}}
{{- with $vm.vmconfig.cpu.model }}
- {name: BERTH_CPU, value: {{ . | quote }}}
{{- end }}
{{- with $rootfs.sourceurl }}
- {name: IMG_SOURCE, value: {{ . | quote }}}
{{- end }}
{{- with $rootfs.localtarget }}
- {name: IMG_TARGET, value: {{ . | quote }}}
{{- end }}
{{- with $rootfs.checksum }}
- {name: IMG_SHA256, value: {{ . | quote }}}
{{- end }}
{{- with $rootfs.disk_size }}
- {name: BERTH_DISK_SIZE, value: {{ kindIs "string" . | ternary . (int64 .) | quote }}}
{{- end }}
{{- with $net.mac }}
- {name: BERTH_MAC, value: {{ . | quote }}}
{{- end }}
{{- with $net.reserved_ports }}
- {name: BERTH_RESERVED_PORTS, value: {{ . | quote }}}
{{- end }}
{{- if hasKey $vnc "enabled" }}
- {name: BERTH_VNC, value: {{ ternary "on" "off" $vnc.enabled | quote }}}
{{- end }}
{{- with $vnc.passwordSecret }}
- {name: BERTH_VNC_PASSWORD_FILE, value: /vnc/{{ $vnc.passwordKey | default "password" }}}
{{- end }}
- {name: BERTH_METADATA, value: /cloudconfig/metadata}
- {name: BERTH_USERDATA, value: /cloudconfig/userdata}
{{- range $key, $variable := dict "vendordata" "BERTH_VENDORDATA" "networkdata" "BERTH_NETWORKDATA" }}
{{- if or (get $cloud $key) (has $key ($cloud.keys | default list)) }}
- {name: {{ $variable }}, value: /cloudconfig/{{ $key }}}
{{- end }}
{{- end }}
{{- with $cloud.format }}
- {name: BERTH_SEED_FORMAT, value: {{ . | quote }}}
{{- end }}
- {name: BERTH_GRACE_S, value: {{ sub (include "berth.grace" . | int64) 5 | quote }}}
{{- with $vm.on_poweroff }}
- {name: BERTH_ON_POWEROFF, value: {{ . | quote }}}
{{- end }}
{{- range $key, $value := $vm.env }}
- {name: {{ $key }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "berth.accel" -}}
{{ .vm.accel | default .root.Values.accel }}
{{- end }}

{{- define "berth.grace" -}}
{{ .vm.grace_seconds | default .root.Values.grace_seconds | int64 }}
{{- end }}

{{/* A pod's: another version of the chart is no reason to start the guest again. */}}
{{- define "berth.podLabels" -}}
app: berth
vm: {{ .name | quote }}
app.kubernetes.io/name: berth
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .name | quote }}
{{- end }}

{{- define "berth.labels" -}}
{{ include "berth.podLabels" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
helm.sh/chart: berth-{{ .root.Chart.Version }}
{{- end }}

{{/* Device plugins' resources among the limits of a container; .kvm: the guest's too. */}}
{{- define "berth.resources" -}}
{{- $resources := deepCopy (.resources | default dict) }}
{{- $limits := deepCopy ($resources.limits | default dict) }}
{{- $devices := list .root.Values.devices.tun }}
{{- if .kvm }}
{{- $devices = append $devices .root.Values.devices.kvm }}
{{- end }}
{{- range $devices }}
{{- if contains "/" . }}
{{- $_ := set $limits . 1 }}
{{- end }}
{{- end }}
{{- if $limits }}
{{- $_ := set $resources "limits" $limits }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{/* The guest's memory and processors, unless the VM says its own. */}}
{{- define "berth.vmResources" -}}
{{- $cpu := .vm.vmconfig.cpu }}
{{- $memory := printf "%dMi" (add (int64 $cpu.ram_mb) (int64 .root.Values.overhead_mb)) }}
{{- $processors := printf "%dm" (mul (int64 $cpu.vcpu) (int64 .root.Values.millicpu_per_vcpu)) }}
{{- $own := dict "requests" (dict "cpu" $processors "memory" $memory) "limits" (dict "memory" $memory) }}
{{- $kvm := ne (include "berth.accel" .) "tcg" }}
{{- include "berth.resources" (dict "root" .root "resources" (.vm.resources | default $own) "kvm" $kvm) }}
{{- end }}

{{/* Mounts of the container that runs the guest. */}}
{{- define "berth.vmMounts" -}}
{{- $block := eq (.vm.vmconfig.rootfs.pvc_mode | default "Filesystem") "Block" }}
{{- $block_disks := list }}
volumeMounts:
  {{- if not $block }}
  - {name: image, mountPath: /image}
  {{- end }}
  - {name: cloudconfig, mountPath: /cloudconfig, readOnly: true}
  - {name: run, mountPath: /run/berth}
  {{- if (.vm.netconfig | default dict).vnc | default dict | dig "passwordSecret" "" }}
  - {name: vnc, mountPath: /vnc, readOnly: true}
  {{- end }}
  {{- range $disk := .vm.disks }}
  {{- if eq ($disk.mode | default "Filesystem") "Block" }}
  {{- $block_disks = append $block_disks $disk }}
  {{- else }}
  - {name: disk-{{ $disk.name }}, mountPath: /volumes/{{ $disk.name }}}
  {{- end }}
  {{- end }}
  {{- with include "berth.deviceMounts" (dict "root" .root "kvm" (ne (include "berth.accel" .) "tcg")) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- if or $block $block_disks }}
volumeDevices:
  {{- if $block }}
  - {name: image, devicePath: /dev/vm/root}
  {{- end }}
  {{- range $disk := $block_disks }}
  - {name: disk-{{ $disk.name }}, devicePath: /dev/vm/disk-{{ $disk.name }}}
  {{- end }}
{{- end }}
{{- end }}

{{- define "berth.deviceMounts" -}}
{{- if eq .root.Values.devices.tun "hostPath" }}
- {name: tun, mountPath: /dev/net/tun}
{{- end }}
{{- if and .kvm (eq .root.Values.devices.kvm "hostPath") }}
- {name: kvm, mountPath: /dev/kvm}
{{- end }}
{{- end }}

{{/* Probes ask the launcher itself; ready is who answers on the port that the values name. */}}
{{- define "berth.statusProbe" -}}
exec: {command: [/usr/local/bin/berth, status{{ range .words }}, {{ . }}{{ end }}]}
timeoutSeconds: 6
{{- end }}

{{- define "berth.vmProbes" -}}
startupProbe:
  {{- include "berth.statusProbe" (dict "words" list) | nindent 2 }}
  periodSeconds: 5
  failureThreshold: {{ div (add (int64 .root.Values.startup_seconds) 4) 5 }}
livenessProbe:
  {{- include "berth.statusProbe" (dict "words" (list "--alive")) | nindent 2 }}
  periodSeconds: 30
readinessProbe:
  {{- with (.vm.netconfig | default dict).readinessTcpProbe }}
  tcpSocket: {port: {{ int64 . }}}
  {{- else }}
  {{- include "berth.statusProbe" (dict "words" list) | nindent 2 }}
  {{- end }}
  periodSeconds: 5
{{- end }}
