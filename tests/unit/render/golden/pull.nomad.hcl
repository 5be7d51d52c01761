# Written by `mlops-deploy render`: change mlops.yml and render again.
# `nomad job run FILE` runs it.
job "digits-test" {
  type        = "service"
  datacenters = ["*"]

  # Whose this job is; a job without these lines is left alone.
  meta = {
    "io.mlops-deploy.service" = "digits"
    "io.mlops-deploy.env"     = "test"
    "io.mlops-deploy.content" = "1111111111111111111111111111111111111111111111111111111111111111"
  }

  group "model" {
    count = 1

    # Nomad's own deadlines end later than a release's: they are for jobs that nobody watches.
    update {
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "2s"
      healthy_deadline  = "23m"
      progress_deadline = "24m"
      auto_revert       = false
      canary            = 0
    }

    reschedule {
      delay          = "10s"
      delay_function = "exponential"
      max_delay      = "5m"
      unlimited      = true
    }

    # Megabytes of the allocation's own directory.
    ephemeral_disk {
      size = 380
    }

    network {
      # Nomad chooses the port of the node.
      port "http" {
        to = 8080
      }
    }

    # Pulls the model from its registry and ends; without this lifecycle both tasks would start at once.
    task "bootstrap" {
      driver = "docker"
      user   = "65532:65532"

      lifecycle {
        hook    = "prestart"
        sidecar = false
      }

      config {
        image              = "mlops-puller:0123456789ab"
        image_pull_timeout = "5m"

        # No rights, nothing to write to but what is mounted.
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        pids_limit      = 4096

        mount {
          type   = "tmpfs"
          target = "/tmp"

          # The mode in decimal: 1023 is 1777.
          tmpfs_options {
            size = 67108864
            mode = 1023
          }
        }

        # A file of the node.
        mount {
          type     = "bind"
          source   = "/etc/mlops/$registry.json"
          target   = "/run/registry/credentials.json"
          readonly = true
        }

        # A file of the node.
        mount {
          type     = "bind"
          source   = "/etc/ssl/ca.crt"
          target   = "/run/registry/ca.crt"
          readonly = true
        }
      }

      env = {
        MODEL_REF                        = "registry.example.com:5000/team/digits@sha256:0123456789abcccccccccccccccccccccccccccccccccccccccccccccccccccc"
        MODEL_ID                         = "1111111111111111111111111111111111111111111111111111111111111111"
        MODEL_VOLUME                     = "/alloc/data/model"
        REGISTRY_AUTH_FILE               = "/run/registry/credentials.json"
        SSL_CERT_FILE                    = "/run/registry/ca.crt"
        MLOPS_DEPLOY_INSECURE_REGISTRIES = "registry.example.com:5000"
      }

      resources {
        cpu    = 1500
        memory = 512
      }

      restart {
        attempts = 1
        interval = "5m"
        delay    = "5s"
        mode     = "fail"
      }

      logs {
        max_files     = 2
        max_file_size = 1
      }
    }

    # Starts when every task before it has ended well.
    task "server" {
      driver       = "docker"
      user         = "65532:65532"
      kill_timeout = "30s"
      kill_signal  = "SIGTERM"
      # Out of the service first, ended later: who has just looked it up still gets an answer.
      shutdown_delay = "2s"

      config {
        image              = "mlops-server-kserve-sklearn:012345abcdef"
        image_pull_timeout = "5m"
        entrypoint         = ["python", "-m", "mlops_server"]
        ports              = ["http"]

        # No rights, nothing to write to but what is mounted.
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        pids_limit      = 4096

        mount {
          type   = "tmpfs"
          target = "/tmp"

          # The mode in decimal: 1023 is 1777.
          tmpfs_options {
            size = 268435456
            mode = 1023
          }
        }

        # The copy of the model, and the directory that it is in: to be read.
        mount {
          type     = "bind"
          source   = "../alloc/data"
          target   = "/alloc/data"
          readonly = true
        }

        # The copy of the model, and the directory that it is in: to be read.
        mount {
          type     = "bind"
          source   = "../alloc/data/model"
          target   = "/model"
          readonly = true
        }
      }

      env = {
        MODEL_NAME      = "digits"
        MODEL_ID        = "1111111111111111111111111111111111111111111111111111111111111111"
        MODEL_PATH      = "/model/v/1111111111111111111111111111111111111111111111111111111111111111"
        PORT            = "8080"
        GOLDEN          = "[{\"expect\":[{\"data\":[3.5],\"name\":\"predict\"}],\"request\":{\"inputs\":[{\"data\":[1.5,2.0],\"datatype\":\"FP64\",\"name\":\"x\",\"shape\":[1,2]}]},\"tolerance\":1e-06}]"
        OMP_NUM_THREADS = "2"
        GREETING        = "say \"hi\" for $5, it's #1"
        LOG_LEVEL       = "info"
      }

      # In the task, not in the group: registered when the task runs, not while a model is still copied.
      service {
        name     = "digits-test"
        provider = "nomad"
        port     = "http"

        check {
          name     = "ready"
          type     = "http"
          path     = "/v2/models/digits/ready"
          interval = "5s"
          timeout  = "5s"

          # From `grace` after its start, a server that fails the check `limit` times in a row is started again.
          check_restart {
            limit = 3
            grace = "2m"
          }
        }
      }

      resources {
        cpu    = 1500
        memory = 512
      }

      restart {
        attempts = 3
        interval = "8m20s"
        delay    = "5s"
        mode     = "fail"
      }

      logs {
        max_files     = 3
        max_file_size = 10
      }
    }
  }
}
