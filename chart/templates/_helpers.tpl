{{/*
The values as they are used: a null is as if it was not said, and the chart's own defaults stand for it. Helm takes the
defaults of values.yaml away where a values file has null. JSON.
*/}}
{{- define "berth.values" -}}
{{- $values := .Values | toJson | fromJson }}
{{- range $key, $value := dict "images" dict "labels" dict "devices" dict "metrics" dict "vmlist" dict }}
{{- if not (get $values $key) }}{{- $_ := set $values $key $value }}{{- end }}
{{- end }}
{{- include "berth.prune" $values }}
{{- include "berth.default" (list $values.images "vmrunner" (printf "berth:%s" .Chart.AppVersion)) }}
{{- include "berth.default" (list $values.devices "tun" "squat.ai/tun") }}
{{- include "berth.default" (list $values.devices "kvm" "squat.ai/kvm") }}
{{- include "berth.default" (list $values "imagePullPolicy" "IfNotPresent") }}
{{- include "berth.default" (list $values "single" false) }}
{{- include "berth.default" (list $values "accel" "auto") }}
{{- include "berth.default" (list $values "overhead_mb" 384) }}
{{- include "berth.default" (list $values "millicpu_per_vcpu" 250) }}
{{- $requests := dict "cpu" "10m" "memory" "16Mi" "ephemeral-storage" "16Mi" }}
{{- $limits := dict "cpu" "500m" "memory" "64Mi" "ephemeral-storage" "128Mi" }}
{{- $net := dict "requests" $requests "limits" $limits }}
{{- include "berth.default" (list $values "net_resources" $net) }}
{{- include "berth.default" (list $values "grace_seconds" 60) }}
{{- include "berth.default" (list $values "startup_seconds" 1800) }}
{{- include "berth.default" (list $values "log" "info") }}
{{- include "berth.default" (list $values.metrics "enabled" false) }}
{{- include "berth.default" (list $values.metrics "port" 9177) }}
{{- include "berth.default" (list $values.metrics "interval" "30s") }}
{{- toJson $values }}
{{- end }}

{{/* Nulls are taken out of a map, and of the maps in it. */}}
{{- define "berth.prune" -}}
{{- $map := . }}
{{- range $key, $value := $map }}
{{- if kindIs "invalid" $value }}
{{- $_ := unset $map $key }}
{{- else if kindIs "map" $value }}
{{- include "berth.prune" $value }}
{{- end }}
{{- end }}
{{- end }}

{{- define "berth.default" -}}
{{- if not (hasKey (first .) (index . 1)) }}{{- $_ := set (first .) (index . 1) (last .) }}{{- end }}
{{- end }}

{{/* A scalar as text: all numbers are floats to Helm, which would write large ones with an exponent. */}}
{{- define "berth.text" -}}
{{- if not (kindIs "float64" .) }}{{ toString . }}
{{- else if eq (floor .) . }}{{ int64 . }}
{{- else }}{{ toJson . }}
{{- end }}
{{- end }}

{{/* What the two containers of a VM must agree about, and what only one of them reads: pairs of name and value, as JSON. */}}
{{- define "berth.variables" -}}
{{- $vm := .vm }}
{{- $net := $vm.netconfig | default dict }}
{{- $vnc := $net.vnc | default dict }}
{{- $web := $net.web | default dict }}
{{- $rootfs := $vm.vmconfig.rootfs }}
{{- $cloud := $vm.cloudconfig | default dict }}
{{- $all := list
  (list "BERTH_NAME" .name)
  (list "HOSTNAME" .name)
  (list "BERTH_LOG" .values.log)
  (list "IMG_VCPU" $vm.vmconfig.cpu.vcpu)
  (list "IMG_RAM_MB" $vm.vmconfig.cpu.ram_mb)
  (list "BERTH_ACCEL" (include "berth.accel" .))
  (list "BERTH_CPU" $vm.vmconfig.cpu.model)
  (list "IMG_SOURCE" $rootfs.sourceurl)
  (list "IMG_TARGET" $rootfs.localtarget)
  (list "IMG_SHA256" $rootfs.checksum)
  (list "IMG_MAX_SIZE" $rootfs.image_max_size)
  (list "BERTH_DISK_SIZE" $rootfs.disk_size)
  (list "BERTH_MAC" $net.mac)
  (list "BERTH_RESERVED_PORTS" $net.reserved_ports)
  (list "BERTH_GATEWAY_PORTS" $net.gateway_ports)
  (list "BERTH_METADATA_ADDRESS" $net.metadata_address)
  (list "BERTH_IPV4" $net.ipv4)
  (list "BERTH_IPV6" (eq "false" (toString $net.ipv6) | ternary "off" $net.ipv6))
  (list "BERTH_VNC" (hasKey $vnc "enabled" | ternary (ternary "on" "off" ($vnc.enabled | default false)) ""))
  (list "BERTH_VNC_PASSWORD_FILE" ($vnc.passwordSecret | empty | ternary "" (printf "/vnc/%s" ($vnc.passwordKey | default "password"))))
  (list "BERTH_WEB" (eq "false" (toString $web.listen) | ternary "off" ($web.listen | default "loopback")))
  (list "BERTH_WEB_PORT" $web.port)
  (list "BERTH_WEB_TOKEN_FILE" ($web.tokenSecret | empty | ternary "" (printf "/web/token/%s" ($web.tokenKey | default "token"))))
  (list "BERTH_WEB_READONLY" (hasKey $web "readonly" | ternary (ternary "on" "off" ($web.readonly | default false)) ""))
  (list "BERTH_WEB_TLS_CERT" ($web.tlsSecret | empty | ternary "" "/web/tls/tls.crt"))
  (list "BERTH_WEB_TLS_KEY" ($web.tlsSecret | empty | ternary "" "/web/tls/tls.key"))
  (list "BERTH_METADATA" "/cloudconfig/metadata")
  (list "BERTH_USERDATA" "/cloudconfig/userdata") }}
{{- range $key, $variable := dict "vendordata" "BERTH_VENDORDATA" "networkdata" "BERTH_NETWORKDATA" }}
{{- if or (get $cloud $key) (has $key ($cloud.keys | default list)) }}
{{- $all = append $all (list $variable (printf "/cloudconfig/%s" $key)) }}
{{- end }}
{{- end }}
{{- $all = concat $all (list
  (list "BERTH_SEED_FORMAT" $cloud.format)
  (list "BERTH_GRACE_S" (sub (include "berth.grace" . | int64) 5))
  (list "BERTH_ON_POWEROFF" $vm.on_poweroff)
  (list "BERTH_ON_STOP" $vm.on_stop)
  (list "BERTH_ON_PANIC" $vm.on_panic)
  (list "BERTH_READY" $vm.ready)
  (list "BERTH_METRICS" (.values.metrics.enabled | ternary (printf "pod:%d" (int64 .values.metrics.port)) ""))) }}
{{- toJson $all }}
{{- end }}

{{/* Kubernetes puts other variables in place of $(NAME) in variables and arguments, and $ in place of $$. */}}
{{- define "berth.literal" -}}
{{ or (contains "$(" .) (contains "$$" .) | ternary (replace "$" "$$" .) . | quote }}
{{- end }}

{{/* `env` goes first: a name may stand in a container's environment once. */}}
{{- define "berth.env" -}}
{{- $own := .vm.env | default dict }}
{{- range include "berth.variables" . | fromJsonArray }}
{{- if and (last .) (not (hasKey $own (first .))) }}
- {name: {{ first . }}, value: {{ include "berth.text" (last .) | include "berth.literal" }}}
{{- end }}
{{- end }}
{{- range $name, $value := $own }}
- {name: {{ $name | quote }}, value: {{ include "berth.text" $value | include "berth.literal" }}}
{{- end }}
{{- end }}

{{- define "berth.accel" -}}
{{ .vm.accel | default .values.accel }}
{{- end }}

{{- define "berth.grace" -}}
{{- $least := .values.grace_seconds }}
{{- if eq (.vm.on_stop | default "") "suspend" }}
{{- /* Its memory at 32 MiB/s, and the power button when that fails; an hour is enough for anybody. */}}
{{- $least = max (int64 $least) (min 3600 (add 60 (div (int64 .vm.vmconfig.cpu.ram_mb) 32))) }}
{{- end }}
{{- .vm.grace_seconds | default $least | int64 }}
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
helm.sh/chart: {{ printf "berth-%s" .root.Chart.Version | quote }}
{{- end }}

{{/* The protocol of the port .port, of .net: as the Service has it, so the container's. */}}
{{- define "berth.protocol" -}}
{{ get ((.net.service | default dict).protocols | default dict) .port | default "TCP" }}
{{- end }}

{{/* Device plugins' resources among the limits of a container; .kvm: the guest's too. */}}
{{- define "berth.resources" -}}
{{- $resources := dict }}
{{- range $kind := list "requests" "limits" }}
{{- $of := dict }}
{{- range $name, $quantity := get ($.resources | default dict) $kind | default dict }}
{{- $_ := set $of $name (include "berth.text" $quantity) }}
{{- end }}
{{- if eq $kind "limits" }}
{{- range $device := $.kvm | ternary (list $.values.devices.tun $.values.devices.kvm) (list $.values.devices.tun) }}
{{- if contains "/" $device }}
{{- $_ := set $of $device 1 }}
{{- end }}
{{- end }}
{{- end }}
{{- if $of }}
{{- $_ := set $resources $kind $of }}
{{- end }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{/*
The guest's memory and processors, and over them what the VM says. A request or a limit of memory that is said alone is
both, and a limit of processors is the request, as Kubernetes has it: no request may be above its limit. The volumes are
none of the node's storage; the container's log is, of which a kubelet keeps 50 MiB unless told otherwise.
*/}}
{{- define "berth.vmResources" -}}
{{- $cpu := .vm.vmconfig.cpu }}
{{- $said := .vm.resources | default dict }}
{{- $requests := deepCopy ($said.requests | default dict) }}
{{- $limits := deepCopy ($said.limits | default dict) }}
{{- $memory := printf "%dMi" (add (int64 $cpu.ram_mb) (int64 .values.overhead_mb)) }}
{{- $processors := printf "%dm" (mul (int64 $cpu.vcpu) (int64 .values.millicpu_per_vcpu)) }}
{{- include "berth.default" (list $requests "cpu" (hasKey $limits "cpu" | ternary (get $limits "cpu") $processors)) }}
{{- include "berth.default" (list $requests "memory" (hasKey $limits "memory" | ternary (get $limits "memory") $memory)) }}
{{- include "berth.default" (list $limits "memory" $requests.memory) }}
{{- $storage := "ephemeral-storage" }}
{{- $least := get $limits $storage | default "16Mi" }}
{{- include "berth.default" (list $limits $storage (get $requests $storage | default "128Mi")) }}
{{- include "berth.default" (list $requests $storage $least) }}
{{- $kvm := ne (include "berth.accel" .) "tcg" }}
{{- include "berth.resources" (dict "values" .values "resources" (dict "requests" $requests "limits" $limits) "kvm" $kvm) }}
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
  {{- if ((.vm.netconfig | default dict).vnc | default dict).passwordSecret }}
  - {name: vnc, mountPath: /vnc, readOnly: true}
  {{- end }}
  {{- $web := (.vm.netconfig | default dict).web | default dict }}
  {{- range $key := list "token" "tls" }}
  {{- if get $web (printf "%sSecret" $key) }}
  - {name: {{ printf "web-%s" $key }}, mountPath: {{ printf "/web/%s" $key }}, readOnly: true}
  {{- end }}
  {{- end }}
  {{- range $disk := .vm.disks }}
  {{- if eq ($disk.mode | default "Filesystem") "Block" }}
  {{- $block_disks = append $block_disks $disk }}
  {{- else }}
  - {name: {{ printf "disk-%s" $disk.name | quote }}, mountPath: {{ printf "/volumes/%s" $disk.name | quote }}}
  {{- end }}
  {{- end }}
  {{- with include "berth.deviceMounts" (dict "values" .values "kvm" (ne (include "berth.accel" .) "tcg")) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- if or $block $block_disks }}
volumeDevices:
  {{- if $block }}
  - {name: image, devicePath: /dev/vm/root}
  {{- end }}
  {{- range $disk := $block_disks }}
  - {name: {{ printf "disk-%s" $disk.name | quote }}, devicePath: {{ printf "/dev/vm/disk-%s" $disk.name | quote }}}
  {{- end }}
{{- end }}
{{- end }}

{{- define "berth.deviceMounts" -}}
{{- if eq .values.devices.tun "hostPath" }}
- {name: tun, mountPath: /dev/net/tun}
{{- end }}
{{- if and .kvm (eq .values.devices.kvm "hostPath") }}
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
  failureThreshold: {{ div (add (int64 .values.startup_seconds) 4) 5 }}
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
