# Written by `mlops-deploy render`: change mlops.yml and render again.
# `nomad job run FILE` runs it.
job "digits" {
  type        = "service"
  datacenters = ["*"]

  # Whose this job is; a job without these lines is left alone.
  meta = {
    "io.mlops-deploy.service" = "digits"
    "io.mlops-deploy.content" = "b7d4017a5e7750202e003b5612214671aaa8d62219a5d6ccd60e884c28eada40"
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
      size = 81
    }

    network {
      # Nomad chooses the port of the node.
      port "http" {
        to = 8080
      }
    }

    # Copies the model and ends; without this lifecycle both tasks would start at once.
    task "bootstrap" {
      driver = "docker"
      user   = "65532:65532"

      lifecycle {
        hook    = "prestart"
        sidecar = false
      }

      config {
        image              = "digits:060497feab82"
        image_pull_timeout = "5m"
        network_mode       = "none"

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
      }

      env = {
        MODEL_ID     = "b7d4017a5e7750202e003b5612214671aaa8d62219a5d6ccd60e884c28eada40"
        MODEL_VOLUME = "/alloc/data/model"
      }

      resources {
        cpu    = 100
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
        image              = "mlops-server-kserve-sklearn:b29e8ed6610c"
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
        MODEL_NAME = "digits"
        MODEL_ID   = "b7d4017a5e7750202e003b5612214671aaa8d62219a5d6ccd60e884c28eada40"
        MODEL_PATH = "/model/v/b7d4017a5e7750202e003b5612214671aaa8d62219a5d6ccd60e884c28eada40"
        PORT       = "8080"
        GOLDEN     = "[{\"expect\":[{\"data\":[0,1,2,3,4,5,6,7,8,9],\"datatype\":\"INT64\",\"name\":\"output-0\",\"shape\":[10]}],\"request\":{\"inputs\":[{\"data\":[0,0,2,14,13,3,0,0,0,0,13,13,9,11,0,0,0,0,16,7,0,12,0,0,0,3,16,5,0,10,5,0,0,5,16,1,0,8,5,0,0,3,16,1,0,10,5,0,0,0,16,8,5,14,3,0,0,0,4,16,16,9,1,0,0,0,0,0,11,14,3,0,0,0,0,2,16,16,2,0,0,0,0,11,16,14,0,0,0,0,3,16,16,15,0,0,0,1,13,16,16,13,0,0,0,6,16,9,15,13,0,0,0,0,0,0,12,16,1,0,0,0,0,0,9,14,1,0,0,0,7,16,14,3,0,0,0,0,9,14,11,15,0,0,0,0,1,5,0,15,5,0,0,0,0,0,0,16,5,0,0,0,0,0,3,16,4,0,0,0,0,1,12,14,1,0,0,0,5,12,16,16,14,1,0,0,8,16,14,10,13,3,0,0,9,16,10,1,0,0,0,0,8,3,16,4,0,0,0,0,0,5,14,2,0,0,0,0,2,16,15,7,0,0,0,0,0,0,3,15,2,0,0,4,6,0,0,13,7,0,0,6,13,1,5,16,3,0,0,0,10,16,15,5,0,0,0,0,0,10,9,0,0,0,0,0,5,15,0,0,9,5,0,0,14,10,0,7,16,4,0,5,16,7,5,16,6,0,0,11,16,16,16,14,0,0,0,3,4,11,16,8,0,0,0,0,0,7,16,2,0,0,0,0,0,12,12,0,0,0,0,0,5,16,16,3,0,0,0,0,9,16,7,0,0,0,0,0,12,15,2,0,0,0,0,1,15,16,15,4,0,0,0,0,9,13,16,9,0,0,0,0,0,0,14,12,0,0,0,0,5,12,16,8,0,0,0,0,3,15,15,1,0,0,0,0,3,11,0,0,0,0,0,0,12,11,0,0,0,0,0,1,14,1,0,0,0,0,0,2,15,0,0,0,0,0,0,4,15,15,16,15,2,0,0,1,16,8,4,8,11,0,0,1,16,11,7,10,12,0,0,0,5,10,12,15,7,0,0,0,2,13,16,9,0,0,0,0,12,12,7,16,3,0,0,1,14,3,0,16,4,0,0,0,0,4,10,16,6,0,0,0,0,13,16,16,9,0,0,0,0,5,13,1,0,0,0,0,0,11,9,0,0,0,0,0,1,16,4,0,0,0,0,0,0,3,12,10,0,0,0,0,1,14,6,15,0,0,0,0,0,16,6,10,0,0,0,0,0,14,16,2,0,0,0,0,3,14,15,3,0,0,0,1,16,4,9,9,0,0,0,0,4,13,4,7,8,0,0,0,0,3,10,11,15,2,0,0,8,16,10,2,0,0,0,0,12,13,14,11,0,0,0,0,10,13,8,16,2,0,0,0,4,15,15,16,8,0,0,0,0,3,8,11,13,0,0,0,0,0,0,5,16,4,0,0,1,2,2,7,16,5,0,0,3,14,16,16,11,1],\"datatype\":\"FP64\",\"name\":\"images\",\"shape\":[10,64]}]},\"tolerance\":0.0}]"
      }

      # In the task, not in the group: registered when the task runs, not while a model is still copied.
      service {
        name     = "digits"
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
        cpu    = 100
        memory = 1024
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
