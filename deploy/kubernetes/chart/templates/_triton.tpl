{{- /* The container of Triton: of a pod of its own, or beside a gateway. */ -}}
{{- define "tamvt.tritonContainer" -}}
name: triton
image: {{ include "tamvt.image" (list . "triton") }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
command: [tritonserver]
args:
  - --model-repository={{ include "tamvt.tritonRepository" . }}
  - --disable-auto-complete-config
  - --allow-http=false
  {{- if eq .Values.engine.pairing "pod" }}
  - --allow-client-shm=true
  {{- end }}
  - --exit-timeout-secs={{ .Values.gateway.drain.graceS }}
# By itself the model on the CPU takes a thread for each processor of the node.
env:
  - name: TAMVT_ENGINE_THREADS
    valueFrom: {resourceFieldRef: {containerName: triton, resource: requests.cpu}}
ports:
  - {name: grpc, containerPort: 8001, protocol: TCP}
  - {name: triton-metrics, containerPort: 8002, protocol: TCP}
# A model is ready when every shape of its warm-up has run.
startupProbe:
  grpc: {port: 8001}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: {{ div (add .Values.triton.startDeadlineS 9) 10 }}
readinessProbe:
  grpc: {port: 8001}
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  httpGet: {path: /metrics, port: triton-metrics}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
securityContext:
  {{- include "tamvt.containerSecurity" . | nindent 2 }}
resources:
  requests:
    {{- toYaml .Values.triton.resources.requests | nindent 4 }}
    {{- if .Values.triton.gpus }}
    {{ .Values.triton.gpuResource }}: {{ .Values.triton.gpus }}
    {{- end }}
  limits:
    {{- toYaml .Values.triton.resources.limits | nindent 4 }}
    {{- if .Values.triton.gpus }}
    {{ .Values.triton.gpuResource }}: {{ .Values.triton.gpus }}
    {{- end }}
volumeMounts:
  - {name: shm, mountPath: /dev/shm}
  - {name: triton-tmp, mountPath: /tmp}
  - {name: engine-cache, mountPath: /var/cache/tamvt}
  {{- if include "tamvt.buildsEngines" . }}
  - {name: engines, mountPath: /engines, readOnly: true}
  {{- else if eq .Values.triton.repository.from "volume" }}
  - {name: repository, mountPath: /repository, readOnly: true}
  {{- end }}
{{- end -}}

{{- define "tamvt.tritonRepository" -}}
{{- if include "tamvt.buildsEngines" . -}}
/engines/{{ include "tamvt.engineKey" . }}/repository
{{- else if eq .Values.triton.repository.from "volume" -}}
/repository/{{ .Values.triton.repository.folder }}
{{- else -}}
/models
{{- end -}}
{{- end -}}

{{- /* Waits until the Job has built the plans of this GPU, TensorRT and model. */ -}}
{{- define "tamvt.awaitEngines" -}}
name: await-engines
image: {{ include "tamvt.image" (list . "triton") }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
command: [bash, -ec]
args:
  - until [ -e "/engines/$KEY/ready" ]; do echo "no plans for $KEY yet" >&2; sleep 5; done
env:
  - {name: KEY, value: {{ include "tamvt.engineKey" . | quote }}}
securityContext:
  {{- include "tamvt.containerSecurity" . | nindent 2 }}
resources:
  requests: {cpu: 10m, memory: 32Mi, ephemeral-storage: 8Mi}
  limits: {memory: 64Mi, ephemeral-storage: 16Mi}
volumeMounts:
  - {name: engines, mountPath: /engines, readOnly: true}
{{- end -}}

{{- define "tamvt.tritonVolumes" -}}
- name: shm  # banks lie in it
  emptyDir: {medium: Memory, sizeLimit: {{ .Values.triton.sharedMemory }}}
- name: triton-tmp
  emptyDir: {sizeLimit: 256Mi}
- name: engine-cache  # what ONNX Runtime's TensorRT provider builds by itself
  emptyDir: {sizeLimit: 4Gi}
{{- if include "tamvt.buildsEngines" . }}
- name: engines
  persistentVolumeClaim: {claimName: {{ .Values.triton.engines.claim }}, readOnly: true}
{{- else if eq .Values.triton.repository.from "volume" }}
- name: repository
  persistentVolumeClaim: {claimName: {{ .Values.triton.repository.claim }}, readOnly: true}
{{- end }}
{{- end -}}
